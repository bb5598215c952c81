# SPDX-License-Identifier: Apache-2.0
"""What stands for vports, floods and mirrors follows the rows, by differences only."""

from __future__ import annotations

from midoryu.engine import standing
from midoryu.engine.effect import Effects
from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import InstallFlow, RemoveFlow, RemoveMeter, SetMeter
from midoryu.openflow.service_flows import METER_TO
from midoryu.packet import field
from midoryu.topology import model
from midoryu.topology.l2 import Mirror, Qos
from tests.helpers.bench import GRE, OFPORTS, Bench, office, removed


def tunnel_actions(made: Bench, key: int) -> tuple[tuple[int, ...], ...] | None:
    for one in standing.flows(made.core):
        if one.table == pipeline.TUNNEL and one.match == (field.TUNNEL_KEY, (key,)):
            return one.actions
    return None


def test_nothing_changes_twice() -> None:
    made = Bench(office())
    effects = Effects()
    standing.refresh(made.core, effects, made.now)
    assert effects.flow_mods == []

    standing.refresh(made.core, effects, made.now, again=True)
    flows = {mod.flow for mod in effects.flow_mods if isinstance(mod, InstallFlow)}
    assert flows == standing.flows(made.core)


def test_a_flood_leads_to_local_vports_of_its_network_alone() -> None:
    made = Bench(office())

    actions = tunnel_actions(made, made.b.key("web"))
    assert actions is not None
    assert set(actions) == {(flow.OUTPUT, 11), (flow.OUTPUT, 12)}
    assert tunnel_actions(made, made.b.key("r")) is None


def test_a_limit_comes_with_its_meter_first_and_goes_with_it_last() -> None:
    b = office()
    b.vport("web/vm2", host="node1", mac="02:00:00:00:00:02", up=False, qos="gold")
    made = Bench(b)
    old = made.send("web/vm1", made.beside(1, 2))
    key = b.key("web/vm2")

    came = made.change(Qos("gold", "gold", ingress_kbps=1000))
    kinds = [type(mod) for mod in came.flow_mods]
    assert kinds.index(SetMeter) < kinds.index(InstallFlow)
    meter = SetMeter(METER_TO | key, 1000, 800, is_kbps=True)
    assert meter in came.flow_mods
    # Flows to it that go straight to its interface would miss the limit.
    assert len(removed(came)) == 1
    assert old.flow_mods
    assert (flow.DELIVER, key) in (tunnel_actions(made, b.key("web")) or ())
    gone = made.gone(Qos, "gold")
    mods = [mod for mod in gone.flow_mods if not isinstance(mod, RemoveFlow)]
    assert mods[-1] == RemoveMeter(METER_TO | key)


def test_a_mirror_stands_at_both_ends() -> None:
    made = Bench(office())
    b = made.b
    far, near = b.key("web/vm3"), b.key("web/vm1")

    made.change(Mirror(9000, "out", frozenset((near,)), far))
    assert tunnel_actions(made, 9000) == (
        (flow.SET_TUNNEL, 9000, 0xFFFF_AC1F_0002),
        (flow.OUTPUT, GRE),
    )
    made.change(Mirror(9000, "in", frozenset((far,)), near))
    assert tunnel_actions(made, 9000) == ((flow.OUTPUT, OFPORTS["web/vm1"]),)
    made.gone(Mirror, 9000)
    assert tunnel_actions(made, 9000) is None


def test_a_vport_that_goes_takes_its_flows_along() -> None:
    made = Bench(office())
    key = made.b.key("web/vm2")
    gone = made.gone(model.Vport, key)

    cookies = {pipeline.cookie(kind, key) for kind in (1, 2)}
    went = [mod.flow for mod in gone.flow_mods if isinstance(mod, RemoveFlow)]
    assert len([one for one in went if one.cookie in cookies]) >= 3
    assert RemoveMeter(OFPORTS["web/vm2"]) in gone.flow_mods
    assert tunnel_actions(made, made.b.key("web")) == ((flow.OUTPUT, 11),)
