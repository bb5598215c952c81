# SPDX-License-Identifier: Apache-2.0
"""What the demo's steps look at and touch: sessions, counters, records, packets.

`demo` has the steps.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from midoryu.errors import DecodeError
from midoryu.lab.error import LabError
from midoryu.lab.gre import GrePacket, parse_all
from midoryu.lab.lab import Lab
from midoryu.lab.session import Session
from midoryu.lab.story import Story
from midoryu.packet.address import format_ip
from midoryu.packet.codec import decode

SERVER = "198.51.100.10"
ROUTER = "10.0.1.1"
NAT = "203.0.113.10"
VIP = "203.0.113.20"
PORT = 7007
EF_TOS = 0xB8
HOSTS = ("node1", "node2", "node3", "node4")
INTERESTED = ("node1", "node4")
_VIA = {"node1": "192.0.2.2", "node4": "192.0.2.6"}


class Stage:
    """The lab as the story's steps use it."""

    def __init__(self, lab: Lab, story: Story) -> None:
        self.lab = lab
        self.story = story

    def open(self, node: str, host: str, port: int = PORT) -> Session:
        """Open a numbered session from a machine of the lab."""
        command = Session.command("tcp", host, port)
        return Session(self.lab.popen(node, command, stdin=-1))

    def upstream_sends_to(self, gateway: str) -> None:
        """Let upstream route what is for the cloud to one gateway."""
        via = _VIA[gateway]
        self.lab.exec("upstream", f"ip route replace 203.0.113.0/24 via {via}")
        self.story.tell(f"upstream: 203.0.113.0/24 via {via} ({gateway})")

    def counters(self, host: str) -> Counter[str]:
        """Return what an agent has counted so far."""
        return Counter(self.lab.agent_query(host, "stats")["counters"])

    def records(self, host: str, port: int) -> list[dict[str, Any]]:
        """Return a host's records of connections from a source port."""
        return [
            record
            for record in self.lab.agent_query(host, "records")
            if record["original"]["source_port"] == port
        ]

    def gre(self, capture: Any) -> list[GrePacket]:
        """Return the GRE packets of a capture."""
        return parse_all((frame.time, frame.data) for frame in capture.frames())

    def underlay(self, host: str) -> str:
        """Return a host's tunnel address."""
        return next(h.ip for h in self.lab.spec.hosts if h.name == host)

    def host_at(self, address: str) -> str:
        """Return the host that has a tunnel address."""
        names = [h.name for h in self.lab.spec.hosts if h.ip == address]
        return names[0] if names else address

    def wait(self, holds: Callable[[], bool], timeout_s: float = 8.0) -> None:
        """Wait until something holds, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if holds():
                    return
            except LabError:
                # The agent is still starting.
                pass
            time.sleep(0.1)

    def is_return(self, frame: bytes) -> bool:
        """Tell whether a frame is a return packet of the masqueraded connections."""
        try:
            headers = decode(frame).headers
        except DecodeError:
            return False
        return format_ip(headers.ip_dst) == NAT and headers.l4_src == PORT

    def forget_flows(self, host: str) -> int:
        """Delete every reactive flow of a host; return how many there were."""
        node = self.lab.host(host)
        count = node.ovs_ofctl("dump-flows", "table=10").count("priority=1000")
        node.ovs_ofctl("del-flows", "cookie=0x6d03000000000000/0xffff000000000000")
        return count


def is_ip(frame: bytes) -> bool:
    """Tell whether a frame carries IPv4 or IPv6, and is not ARP, say."""
    return frame[12:14] in (b"\x08\x00", b"\x86\xdd")


def tuple_text(ends: dict[str, Any]) -> str:
    """Write a record's tuple as `address:port -> address:port`."""
    return (
        f"{ends['source']}:{ends['source_port']} -> "
        f"{ends['destination']}:{ends['destination_port']}"
    )


def by_host(counters: dict[str, Counter[str]], name: str) -> str:
    """Write one counter of each host."""
    return ", ".join(f"{host} {counted[name]}" for host, counted in counters.items())
