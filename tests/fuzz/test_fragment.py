# SPDX-License-Identifier: Apache-2.0
"""Mutated fragments and SYNs: refused or handled, and never anything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midoryu.errors import DecodeError
from midoryu.packet.checksum import internet_checksum
from midoryu.packet.codec import decode
from midoryu.packet.fragment import join, lend, may_fragment, read_fragment, split
from midoryu.packet.mss import clamp_mss
from midoryu.packet.packet import Packet
from tests.helpers import frames
from tests.helpers.bench import Bench, office

V4 = split(decode(frames.udp(payload=bytes(4000))), 1500, 7)
V6 = split(
    decode(frames.udp(src=frames.IP6_1, dst=frames.IP6_2, payload=bytes(4000))), 1500, 7
)
SEEDS = [*V4, *V6, frames.tcp(), frames.tcp(src=frames.IP6_1, dst=frames.IP6_2)]
changes = st.lists(
    st.tuples(st.integers(0, 90), st.integers(0, 255)), min_size=1, max_size=6
)


def mutated(seed: bytes, edits: list[tuple[int, int]]) -> bytes:
    frame = bytearray(seed)
    for at, value in edits:
        frame[at % len(frame)] = value
    if frame[12:15] == b"\x08\x00\x45":
        # A wrong checksum would hide the rest.
        frame[24:26] = bytes(2)
        frame[24:26] = internet_checksum(bytes(frame[14:34])).to_bytes(2, "big")
    return bytes(frame)


def decoded(frame: bytes) -> Packet | None:
    try:
        return decode(frame)
    except DecodeError:
        return None


@given(st.sampled_from(SEEDS), changes, st.integers(68, 1600))
def test_any_packet_is_read_split_and_clamped_or_refused(
    seed: bytes, edits: list[tuple[int, int]], mtu: int
) -> None:
    packet = decoded(mutated(seed, edits))
    if packet is None or not packet.l3 or not packet.l3_length:
        return
    clamp_mss(packet, 500)
    if packet.eth_type == 0x0800 and may_fragment(packet):
        for frame in split(packet, mtu):
            assert decode(frame[:14] + frame[14:])
    if not packet.ip_frag:
        return
    try:
        place = read_fragment(packet)
    except DecodeError:
        return
    assert 0 <= place.start < place.end <= 0xFFFF
    assert lend(packet, decode(frames.udp())).borrowed
    try:
        join([packet])
    except ValueError:
        return


@given(st.lists(st.tuples(st.sampled_from(SEEDS), changes), max_size=12))
def test_an_engine_survives_any_fragments(
    parts: list[tuple[bytes, list[tuple[int, int]]]],
) -> None:
    bench = Bench(office(masquerade=True))
    for seed, edits in parts:
        bench.send("web/vm1", mutated(seed, edits))
    bench.wait(10.0)
    assert len(bench.core.fragments) == 0
    assert bench.core.fragments.stored_bytes == 0
