# SPDX-License-Identifier: Apache-2.0
"""Records made anew from flows, where nobody has them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.engine.effect import Effects
from midoryu.engine.rebuilding import rebuild
from midoryu.openflow import flow as of
from midoryu.openflow.flow import Action, Flow
from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.state.connection import Phase
from tests.helpers.bench import Bench, installed, office

NAT = "203.0.113.1"


def found(*, masquerade: bool = True) -> tuple[Bench, Flow]:
    """Return an agent without memory, and the flow that stands in its switch."""
    first = Bench(office(masquerade=masquerade))
    first.lease()
    (made,) = installed(first.send("web/vm1", first.frame()))
    new = Bench(office(masquerade=masquerade), epoch=6)
    new.lease()
    return new, made


def values(flow: Flow) -> dict[int, int]:
    bits = [1 << bit for bit in range(flow.match.fields.bit_length())]
    wanted = [bit for bit in bits if flow.match.fields & bit]
    return dict(zip(wanted, flow.match.values))


def again(bench: Bench, flow: Flow) -> int:
    """Ask for the record of a flow; return how many records there are now."""
    vport = bench.core.topology.vport(bench.b.key("web/vm1"))
    assert vport is not None
    rebuild(bench.core, flow, values(flow), vport, Effects(), bench.now)
    return len(bench.core.connections)


def with_action(flow: Flow, action: Action) -> Flow:
    kept = [one for one in flow.actions if one[0] != action[0]]
    return replace(flow, actions=(action, *kept))


def test_a_flow_says_its_record() -> None:
    bench, flow = found()
    assert again(bench, flow) == 1
    (record,) = bench.core.connections
    assert record.phase is Phase.TCP_ESTABLISHED
    assert [one.port for one in record.translations] == [
        action[1] for action in flow.actions if action[0] == of.SET_L4_SRC
    ]
    # It is there now.
    assert again(bench, flow) == 1
    assert bench.counters["connections from flows"] == 1


def test_its_port_is_taken() -> None:
    bench, flow = found()
    port = next(a[1] for a in flow.actions if a[0] == of.SET_L4_SRC)
    other = with_action(flow, (of.SET_L4_SRC, port + 1, 6))
    assert again(bench, other) == 1
    (record,) = bench.core.connections
    (made,) = record.translations
    assert made.port == port + 1
    pool = bench.core.nat._pools[made.device, made.address]
    assert not pool.is_free_for(6, port + 1, record.original[1], record.original[3])


@pytest.mark.parametrize(
    "action",
    [
        (of.SET_L4_SRC, 1, 6),
        (of.SET_IP_SRC, parse_ip("203.0.113.99")),
        (of.SET_IP_DST, parse_ip("203.0.113.99")),
    ],
    ids=["a port that was never leased", "another address", "another destination"],
)
def test_a_flow_that_this_host_would_not_make_says_none(action: Action) -> None:
    bench, flow = found()
    assert again(bench, with_action(flow, action)) == 0


def test_it_may_go_another_way_now() -> None:
    bench, flow = found()
    assert again(bench, with_action(flow, (of.SET_ETH_DST, 1))) == 1


def test_the_flow_of_a_connection_that_nobody_tracked_says_none() -> None:
    bench, flow = found(masquerade=False)
    assert again(bench, flow) == 0


def test_what_has_no_ports_says_none() -> None:
    bench, flow = found()
    fields = {**values(flow), field.IP_PROTO: 1}
    vport = bench.core.topology.vport(bench.b.key("web/vm1"))
    assert vport is not None
    rebuild(bench.core, flow, fields, vport, Effects(), bench.now)
    assert len(bench.core.connections) == 0
