# SPDX-License-Identifier: Apache-2.0
"""Model switch and real Open vSwitch agree on trunks, floods, marks and copies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from midoryu.topology.l2 import Mirror, Qos
from tests.functional.dummy_switch import DummySwitch, copies
from tests.helpers.builder import Builder
from tests.helpers.fabric import Fabric
from tests.scenarios.test_l2 import blue, broadcast, trunk, unicast


def world() -> Builder:
    """The trunk's world; vm2 and vm4 have limits, vm3's packets go to vm6 and vm1."""
    b = trunk()
    b.put(Qos("gold", "gold", 20_000, 0, 20_000, 0, dscp=10))
    for number, host in ((2, 1), (4, 2)):
        b.vport(
            f"web/vm{number}",
            host=f"node{host}",
            mac=f"02:00:00:00:00:0{number}",
            ip=f"10.0.1.{number}",
            qos="gold",
        )
    for number, target in ((1, 6), (2, 1)):
        vports = frozenset((b.key("web/vm3"), b.key("web/vm2"), b.key("blue/sub")))
        name = f"m{number}"
        b.put(Mirror(b.key(name), name, vports, b.key(f"web/vm{target}")))
    return b


FABRIC = Fabric(world())
# name -> (host, where it comes in, frame)
CASES: dict[str, tuple[str, str, bytes]] = {
    "marked and copied": ("node1", "web/vm2", unicast(2, 3, tos=2)),
    "flood from a limited one": ("node1", "web/vm2", broadcast(2)),
    "flood from a plain one": ("node1", "web/vm1", broadcast(1)),
    "to a limited one": ("node1", "web/vm1", unicast(1, 2)),
    "from a copied one": ("node2", "web/vm3", unicast(3, 5)),
    "to a copied one": ("node2", "web/vm5", unicast(5, 3)),
    "from a sub-port": ("node1", "web/vm1", blue(0x11, 8, vlan=101)),
    "to a sub-port": ("node1", "blue/vm9", blue(9, 0x11)),
    "a wrong tag": ("node1", "web/vm1", blue(0x11, 8, vlan=102)),
}


@pytest.fixture(scope="module")
def switches() -> Iterator[dict[str, DummySwitch]]:
    for _, vport, frame in CASES.values():
        FABRIC.send(vport, frame)
    with copies(FABRIC) as made:
        yield made


@pytest.mark.parametrize("case", CASES)
def test_what_comes_in_at_a_vport(switches: dict[str, DummySwitch], case: str) -> None:
    name, vport, frame = CASES[case]
    host = FABRIC.hosts[name]
    in_port = host.ofports[vport]
    outputs = host.switch.send(frame, in_port)

    assert not any(output.kind == "controller" for output in outputs), "no flow stands"
    expected = sorted((output.ofport, output.frame) for output in outputs)
    assert bool(expected) is (case != "a wrong tag")
    assert sorted(switches[name].send(frame, in_port)) == expected
