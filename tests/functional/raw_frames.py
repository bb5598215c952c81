# SPDX-License-Identifier: Apache-2.0
"""Sends and receives whole frames in a namespace, told by lines on standard input.

send DEVICE HEX          ->  sent
watch DEVICE             ->  watching
next DEVICE SECONDS      ->  HEX, or "none"
"""

from __future__ import annotations

import socket
import sys

ETH_P_ALL = 3
_OUTGOING = 4  # packet(7): PACKET_OUTGOING


def _open(device: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.bind((device, 0))
    return raw


def _next(raw: socket.socket, seconds: float) -> str:
    raw.settimeout(seconds)
    while True:
        try:
            frame, address = raw.recvfrom(65536)
        except socket.timeout:
            return "none"
        if address[2] != _OUTGOING:
            return frame.hex()


def main() -> None:
    """Obey until the input ends."""
    watched: dict[str, socket.socket] = {}
    for line in sys.stdin:
        verb, device, *rest = line.split()
        if verb == "send":
            with _open(device) as raw:
                raw.send(bytes.fromhex(rest[0]))
            answer = "sent"
        elif verb == "watch":
            watched[device] = _open(device)
            answer = "watching"
        else:
            answer = _next(watched[device], float(rest[0]))
        print(answer, flush=True)


if __name__ == "__main__":
    main()
