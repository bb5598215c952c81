# SPDX-License-Identifier: Apache-2.0
"""Tagged frames at a trunk's interface belong to its sub-ports."""

from __future__ import annotations

from midoryu.engine import subport
from midoryu.engine.event import PacketIn
from midoryu.openflow import flow
from midoryu.openflow.service_flows import METER_STORM
from midoryu.simulation.outcome import Flood, Forward
from midoryu.topology.model import Vport
from tests.helpers import frames
from tests.helpers.bench import OFPORTS, Bench, office


def bench() -> tuple[Bench, Vport, int]:
    b = office()
    b.network("blue")
    sub = b.vport("blue/sub", parent=b.key("web/vm1"), vlan=101)
    made = Bench(b)
    parent = made.core.topology.vport(b.key("web/vm1"))
    assert parent is not None
    return made, parent, sub.key


def entered(made: Bench, parent: Vport, frame: bytes) -> tuple[int, bytes] | None:
    event = PacketIn(OFPORTS["web/vm1"], frame)
    found = subport.enter(made.core, event, parent)
    return None if found is None else (found[1].key, found[0].frame)


def test_the_tag_leads_to_the_sub_port_and_goes() -> None:
    made, parent, sub = bench()

    assert entered(made, parent, frames.tcp(vlan=101)) == (sub, frames.tcp())
    service = frames.tcp(vlan=101).replace(b"\x81\x00", b"\x88\xa8", 1)
    assert entered(made, parent, service) == (sub, frames.tcp())


def test_other_frames_stay_the_parents() -> None:
    made, parent, _ = bench()

    for frame in (frames.tcp(), frames.tcp(vlan=102), frames.tcp(vlan=101)[:16]):
        assert entered(made, parent, frame) == (parent.key, frame)


def test_a_second_tag_is_refused_and_counted() -> None:
    made, parent, _ = bench()
    frame = frames.tcp(vlan=101)
    double = frame[:12] + b"\x81\x00\x00\x65" + frame[12:]

    assert entered(made, parent, double) is None
    assert made.counters["frames with two tags"] == 1


def test_flows_of_a_sub_port_take_the_tag_off_and_floods_are_metered() -> None:
    made, parent, sub = bench()
    out: tuple[tuple[int, ...], ...] = ((flow.OUTPUT, 12),)
    made.core.storms = frozenset((sub,))

    forward, flood = Forward(1), Flood((1, 2))
    assert subport.installed(made.core, parent.key, flood, out) == out
    plain = ((flow.POP_VLAN,), *out)
    assert subport.installed(made.core, sub, forward, out) == plain
    metered = ((flow.METER, METER_STORM | sub), *plain)
    assert subport.installed(made.core, sub, flood, out) == metered
    assert subport.installed(made.core, sub, flood, ()) == ()
