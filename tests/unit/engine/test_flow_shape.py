# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from midoryu.engine.flow_index import PlannedEntry, match_code
from midoryu.engine.flow_shape import (
    ADDRESS,
    DESTINATION,
    PORT,
    SOURCE,
    SOURCE_PORT,
    FlowShape,
)
from midoryu.openflow import flow, wire
from midoryu.openflow.flow import Flow, InstallFlow, Match
from midoryu.packet import field, protocol
from midoryu.packet.address import parse_ip
from midoryu.state.connection import Translation, TranslationKind
from midoryu.topology.tag import vport_tag

FIELDS = (
    field.IN_PORT
    | field.ETH_TYPE
    | field.IP_PROTO
    | field.IP_SRC
    | field.IP_DST
    | field.L4_SRC
    | field.L4_DST
)


def masqueraded(source: str, there: str, port: int, nat: str, to_port: int) -> Flow:
    kind = protocol.ETH_IPV6 if ":" in source else protocol.ETH_IPV4
    values = (11, kind, protocol.TCP, parse_ip(source), parse_ip(there), port, 443)
    actions = (
        (flow.DEC_TTL,),
        (flow.SET_IP_SRC, parse_ip(nat)),
        (flow.SET_L4_SRC, to_port, protocol.TCP),
        (flow.OUTPUT, 12),
    )
    return Flow(
        10,
        1000,
        Match(FIELDS, values),
        actions,
        cookie=7,
        idle_timeout_s=60,
        fin_timeout_s=2,
        notify_removed=True,
    )


@pytest.mark.parametrize("is_v4", [True, False], ids=["IPv4", "IPv6"])
def test_a_sibling_is_made_from_its_numbers(is_v4: bool) -> None:
    ends = ("10.0.0.1", "198.51.100.9") if is_v4 else ("fd00::1", "2001:db8::9")
    nats = ("203.0.113.1", "203.0.113.2") if is_v4 else ("2001:db8::1", "2001:db8::2")
    model = masqueraded(*ends, 1000, nats[0], 2000)
    shape = FlowShape(
        model,
        match={
            field.IP_SRC: SOURCE,
            field.IP_DST: DESTINATION,
            field.L4_SRC: SOURCE_PORT,
        },
        actions={flow.SET_IP_SRC: ADDRESS, flow.SET_L4_SRC: PORT},
        tags_of=lambda numbers: frozenset((numbers,)),
        shared=frozenset((vport_tag(5),)),
        is_v4=is_v4,
    )
    other = masqueraded(*ends[::-1], 1001, nats[1], 2001)
    there = tuple(map(parse_ip, ends[::-1]))
    made = Translation(3, TranslationKind.SOURCE, parse_ip(nats[1]), 2001)
    code = shape.code((*there, 1001, made.address, made.port))
    entry = PlannedEntry(shape, 7, code, 99, (*there, 1001, 443), made)

    assert entry.flow == other
    assert entry.code == match_code(other.match.values)
    assert entry.tags == {(*there, 1001, made.address, made.port)}
    assert (entry.shared, entry.returns) == (frozenset((vport_tag(5),)), False)
    assert entry.in_port == 11

    def halves(address: int) -> tuple[int, ...]:
        low = address & (1 << 64) - 1
        return (address & 0xFFFF_FFFF,) if is_v4 else (address >> 64, low)

    numbers = (*halves(there[0]), *halves(there[1]), 1001, *halves(made.address), 2001)
    message = shape.fill(7, *numbers)
    assert message == wire.encode_flow_mod(InstallFlow(other), 0)
    sent = wire.encode_flow_mod(InstallFlow(entry, message), 0x1234)
    assert sent == wire.encode_flow_mod(InstallFlow(other), 0x1234)
    actions = wire.encode_packet_out(flow.PacketOut(b"", other.actions, 11), 0)[24:]
    assert message[-shape.actions_bytes :] == actions
