# SPDX-License-Identifier: Apache-2.0
"""The ways to gateways, seen by those who use them."""

from __future__ import annotations

from midoryu.engine import paths
from midoryu.engine.effect import Effects
from tests.helpers.builder import cloud
from tests.helpers.fabric import Fabric
from tests.scenarios.test_main_job import from_vm


def using() -> Fabric:
    """Let vm2 at node2 use a gateway."""
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    fabric.send("web/vm2", from_vm(fabric.builder, 2))
    fabric.advance(1.1)
    return fabric


def watched(fabric: Fabric, host: str) -> set[str]:
    engine = fabric.hosts[host].engine
    assert engine is not None
    names = {fabric.builder.key(name): name for name in fabric.hosts}
    return {names[key] for key in engine._core.paths.watched}


def test_only_gateways_that_flows_lead_to_are_watched() -> None:
    fabric = using()
    assert watched(fabric, "node2") <= {"node1", "node4"}
    assert watched(fabric, "node2")
    assert watched(fabric, "node3") == set()


def test_what_is_asked_comes_back_without_the_gateways_agent() -> None:
    fabric = using()
    for gateway in watched(fabric, "node2"):
        fabric.stop(gateway)
    fabric.advance(3.0)
    engine = fabric.hosts["node2"].engine
    assert engine is not None
    assert engine._core.paths.dead == frozenset()


def test_nothing_is_asked_while_the_switch_is_away() -> None:
    fabric = using()
    engine = fabric.hosts["node2"].engine
    assert engine is not None
    core = engine._core
    core.switch_connected = False
    effects = Effects()
    assert not paths.step(core, effects, fabric.now + 60.0)
    assert not effects.state_pushes
    assert core.paths.dead == frozenset()
