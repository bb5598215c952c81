# SPDX-License-Identifier: Apache-2.0
"""The measured packets are sound, and each is another flow."""

from __future__ import annotations

import pytest

from midoryu.bench import world
from midoryu.nsdb.topology_file import parse
from midoryu.packet import checksum
from midoryu.packet.codec import decode


@pytest.mark.parametrize("kind", world.KINDS)
def test_every_packet_is_another_flow(kind: str) -> None:
    flows = set()
    for number in range(2000):
        ofport, frame = world.packet(kind, number)
        headers = decode(frame).headers
        ends = (headers.eth_src, headers.eth_dst, headers.ip_src, headers.ip_dst)
        flows.add((ofport, *ends, headers.l4_src, headers.l4_dst))

    assert len(flows) == 2000


@pytest.mark.parametrize("kind", world.KINDS)
def test_checksums_are_right(kind: str) -> None:
    _, frame = world.packet(kind, 77)
    packet = decode(frame)
    segment = frame[packet.l4 :][:16] + b"\0\0" + frame[packet.l4 + 18 :]

    if kind != "l3 v6":
        assert checksum.ones_sum(frame[14:34]) in (0, 0xFFFF)
    found = int.from_bytes(frame[packet.l4 + 16 : packet.l4 + 18], "big")
    assert found == checksum.transport_checksum(
        packet.headers.ip_src, packet.headers.ip_dst, 6, segment
    )


def test_topology_file_is_accepted() -> None:
    assert parse(world.topology(), "bench.yaml")


def test_every_vport_has_an_ofport_of_its_own() -> None:
    ofports = [place.ofport for place in world.places()]

    assert len(set(ofports)) == len(ofports)
    assert not {world.GRE_OFPORT, world.STATE_OFPORT} & set(ofports)
