# SPDX-License-Identifier: Apache-2.0
"""The part of a peer that pushes records to the host under test.

`switch` sends what this makes as packet-ins from the state port.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Final

from midoryu.bench import world
from midoryu.packet.address import V4_MAPPED
from midoryu.packet.protocol import TCP
from midoryu.replication.session import Replicator
from midoryu.state.connection import (
    Connection,
    Phase,
    Translation,
    TranslationKind,
)

# Records in one push, as an agent under load makes it.
TOGETHER: Final = 16
_HOST: Final = "node2"
_MTU_BYTES: Final = 1500


class StatePeer:
    """node2's replicator.

    Args:
        keys: names of hosts, devices and `device/vport` -> keys.
    """

    def __init__(self, keys: Mapping[str, int]) -> None:
        self._keys = keys
        now = time.monotonic()
        self._replicator = Replicator(
            host=keys[_HOST],
            epoch=int(time.time()) & 0xFFFF_FFFF,
            keys=(b"",),
            mtu_bytes=_MTU_BYTES,
            now=now,
        )

    def pushes(self, first: int, count: int) -> Iterator[bytes]:
        """Make the frames that push the records of so many connections."""
        numbers = iter(range(first, first + count))
        receiver = (self._keys[world.HOST],)
        while records := list(map(self.record, itertools.islice(numbers, TOGETHER))):
            now = time.monotonic()
            for datagram in self._replicator.push(records, receiver, now):
                yield datagram.frame

    def record(self, number: int) -> Connection:
        """Make the record of `world.masqueraded`."""
        keys = self._keys
        vm, outside, port, address, nat_port = world.masqueraded(number)
        source = TranslationKind.SOURCE
        return Connection(
            id=keys[_HOST] << 40 | number + 1,
            ip_proto=TCP,
            original=(V4_MAPPED | vm, V4_MAPPED | outside, port, 443),
            ingress_device=keys["web"],
            ingress_vport=keys[f"web/vm{number % world.VMS}"],
            egress_device=keys["provider"],
            egress_vport=keys[world.UPLINK],
            translations=(
                Translation(keys["tenant"], source, V4_MAPPED | address, nat_port),
            ),
            owner=keys[_HOST],
            phase=Phase.TCP_TRANSITORY,
            last_used=time.monotonic(),
        )


def records_in(frame: bytes) -> int:
    """Count the records in a state packet without checking it."""
    # Ethernet, IPv4, UDP; head of the payload; tag (see `replication.wire`).
    at, end, count = 42 + 28, len(frame) - 16, 0
    while at + 3 <= end:
        kind, length = struct.unpack_from(">BH", frame, at)
        count += kind == 1
        at += 3 + length
    return count
