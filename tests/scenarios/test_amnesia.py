# SPDX-License-Identifier: Apache-2.0
"""All agents die at once, no journal is left: flows say what connections there were."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet.address import format_ip, parse_ip
from tests.helpers import frames
from tests.helpers.builder import cloud
from tests.helpers.fabric import Fabric
from tests.scenarios.test_main_job import (
    DNAT,
    NAT,
    from_outside,
    from_vm,
    only,
    other,
)

HOSTS = ("node1", "node2", "node3", "node4")


def forget(fabric: Fabric) -> None:
    """Let all agents start anew, with nothing."""
    for name in HOSTS:
        fabric.stop(name)
        fabric.hosts[name].journal.clear()
    for name in HOSTS:
        fabric.start(name)
    fabric.advance(8.0)


def wanted(fabric: Fabric, vm: int, **fields: object) -> bytes:
    return from_vm(fabric.builder, vm, **{"sport": 40000, "dport": 80, **fields})


@pytest.mark.parametrize("way", ["holder", "classic"])
def test_a_masqueraded_connection_goes_on_with_its_translation(way: str) -> None:
    fabric = Fabric(cloud(), gateway_return=way)
    fabric.advance(3.0)
    # The port that it wants itself is taken: what it got, nobody can guess.
    only(fabric.send("web/vm3", wanted(fabric, 3, flags="S")))
    uplink, seen = only(fabric.send("web/vm2", wanted(fabric, 2, flags="S")))
    port = seen.headers.l4_src
    answer = from_outside(int(uplink[-1]), dport=port, flags="SA")
    only(fabric.send(uplink, answer))

    forget(fabric)

    for name in ("node1", "node2", "node4"):
        found = [r["return"]["destination_port"] for r in fabric.records(name)]
        assert port in found
        assert len(found) == len(set(found))
    # All flows end; both directions go on, by the other gateway too.
    fabric.idle_flows()
    _, seen = only(fabric.send("web/vm2", wanted(fabric, 2, flags="A")))
    assert (seen.headers.ip_src, seen.headers.l4_src) == (parse_ip(NAT), port)
    gateway = other(uplink)
    fabric.idle_flows()
    pushed = from_outside(gateway, dport=port, flags="A", payload=b"news")
    vport, seen = only(fabric.send(f"provider/uplink{gateway}", pushed))
    assert (vport, seen.headers.l4_dst) == ("web/vm2", 40000)


def test_nobody_gets_a_port_that_only_a_flow_still_uses() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    _, first = only(fabric.send("web/vm2", wanted(fabric, 2, flags="S")))
    forget(fabric)
    fabric.move("web/vm3", "node2")
    fabric.advance(3.0)
    # It would keep its own port, if nobody had that.
    port = first.headers.l4_src
    _, later = only(fabric.send("web/vm3", wanted(fabric, 3, sport=port, flags="S")))
    assert later.headers.l4_src != port


def test_a_connection_through_filters_only_goes_on() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    mac = {2: "02:00:00:00:00:02", 3: "02:00:00:00:00:03"}
    there: dict[str, Any] = {"src": "10.0.1.2", "dst": "10.0.1.3"}
    back: dict[str, Any] = {"src": "10.0.1.3", "dst": "10.0.1.2"}
    there.update(sport=40000, dport=80)
    back.update(sport=80, dport=40000)
    there.update(eth_src=mac[2], eth_dst=mac[3])
    back.update(eth_src=mac[3], eth_dst=mac[2])
    only(fabric.send("web/vm2", frames.tcp(flags="S", **there)))
    only(fabric.send("web/vm3", frames.tcp(flags="SA", **back)))
    forget(fabric)
    fabric.idle_flows()
    assert only(fabric.send("web/vm3", frames.tcp(flags="A", **back)))[0] == "web/vm2"


def test_a_connection_from_outside_goes_on() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    fields = {"dst": DNAT, "sport": 50000, "dport": 8080}
    only(fabric.send("provider/uplink1", from_outside(1, flags="S", **fields)))
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="SA")
    only(fabric.send("web/vm3", answer))
    forget(fabric)
    fabric.idle_flows()
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="A")
    _, seen = only(fabric.send("web/vm3", answer))
    assert format_ip(seen.headers.ip_src) == DNAT
    assert seen.headers.l4_src == 8080
