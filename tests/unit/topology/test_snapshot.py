# SPDX-License-Identifier: Apache-2.0
"""Rows put together: what is known, where it is, and what a change touches."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.packet.address import parse_ip, parse_mac
from midoryu.topology import model, tag
from midoryu.topology.snapshot import Topology
from tests.helpers.builder import Builder, cloud


def apply(topology: Topology, *rows: Any) -> set[tag.Tag]:
    return topology.apply(model.Put(row) for row in rows)


def full() -> Builder:
    """The cloud, with one row at least of every kind."""
    b = cloud()
    b.floating("tenant", "203.0.113.30", "10.0.1.2")
    b.lease("tenant", "203.0.113.10", 16, "node1")
    b.put(model.AddressGroup("group", "admins", frozenset()))
    b.put(model.MacEntry("mac", b.key("web"), 0x02DD_0000_0001, b.key("web/vm3")))
    return b


# Look-ups.


def test_mac_is_where_the_topology_says_before_where_it_was_learned() -> None:
    b = cloud()
    topology = b.topology()
    known, other = parse_mac("02:00:00:00:00:02"), 0x02DD_0000_0001
    entries = [
        model.MacEntry("x", b.key("web"), known, b.key("web/vm3")),
        model.MacEntry("y", b.key("web"), other, b.key("web/vm3")),
    ]
    apply(topology, *entries)
    network = topology.network(b.key("web"))
    assert network is not None

    assert topology.mac_location(network, known) == b.key("web/vm2")
    assert topology.mac_location(network, other) == b.key("web/vm3")
    assert topology.mac_location(network, 0x02EE) == 0


def test_router_knows_its_neighbours_from_the_topology_first() -> None:
    b = cloud()
    topology = b.topology()
    leaving = topology.vport(b.key("tenant/web"))
    assert leaving is not None
    vm2 = parse_ip("10.0.1.2")
    apply(topology, model.Neighbor("n", b.key("tenant"), vm2, 0x02EE))

    assert topology.neighbor_mac(leaving, vm2) == parse_mac("02:00:00:00:00:02")
    assert topology.neighbor_mac(leaving, parse_ip("10.0.1.99")) == 0


def test_interested_hosts_are_those_of_the_ingress_set() -> None:
    b = cloud()
    topology = b.topology()

    hosts = topology.interested_hosts([b.key("provider/uplink1"), b.key("web/vm2")])

    assert hosts == {b.key(name) for name in ("node1", "node4", "node2")}


def test_devices_beside_are_those_of_other_members_of_an_ingress_set() -> None:
    b = cloud()
    b.vport("tenant/other", host="node4")
    topology, uplink = b.topology(), b.key("provider/uplink1")
    assert topology.devices_beside(uplink) == ()

    row = b.ingress_set("uplinks", "provider/uplink1", "tenant/other")
    tags = topology.apply([model.Put(row)])

    assert topology.devices_beside(uplink) == (b.key("tenant"),)
    assert topology.devices_beside(b.key("tenant/other")) == (b.key("provider"),)
    assert tag.vport_tag(uplink) in tags


def test_vport_that_moves_is_interesting_to_both_hosts() -> None:
    b = cloud()
    topology, vm2 = b.topology(), b.key("web/vm2")
    apply(topology, model.VportStatus(vm2, b.key("node3"), True))

    assert topology.interested_hosts([vm2]) == {b.key("node2"), b.key("node3")}


# Changes.


def test_same_row_again_touches_nothing() -> None:
    b = full()
    topology = b.topology()

    assert apply(topology, *b.rows) == set()


def test_changed_router_changes_what_networks_around_answer() -> None:
    b = cloud()
    topology, web = b.topology(), b.key("web")
    network = topology.network(web)
    assert network is not None
    assert parse_ip("10.0.1.77") not in network.mac_by_ip

    apply(topology, b.floating("tenant", "10.0.1.77", "10.0.1.2"))

    network = topology.network(web)
    assert network is not None
    assert parse_ip("10.0.1.77") in network.mac_by_ip


# Everything that can be asked, to compare topologies.


def answers(topology: Topology) -> Any:
    networks = [topology.network(row.key) for row in topology.rows(model.Network)]
    routers = [topology.router(row.key) for row in topology.rows(model.Router)]
    chains = [topology.chain(row.key) for row in topology.rows(model.Chain)]
    vports = list(topology.rows(model.Vport))
    return (
        {n.row.key: (n.vport_by_mac, n.mac_by_ip) for n in networks if n},
        {n.row.key: {v.key for v in n.exterior} for n in networks if n},
        {n.row.key: {v.key for v in n.interior} for n in networks if n},
        {r.row.key: (r.local, r.vports, r.nat.addresses) for r in routers if r},
        {r.row.key: _routes(r.routes) for r in routers if r},
        {c.key: (c.stateful, len(c.rules)) for c in chains if c},
        {v.key: (topology.location(v.key), topology.is_up(v)) for v in vports},
        {v.key: topology.interested_hosts([v.key]) for v in vports},
        {v.iface_id: topology.vport_by_iface_id(v.iface_id) for v in vports},
        {h.name: topology.host_named(h.name) for h in topology.rows(model.Host)},
        _learned(topology, networks, vports),
    )


def _routes(table: Any) -> Any:
    probes = ("10.0.1.9", "203.0.113.9", "192.0.2.1", "8.8.8.8")
    return [list(table.lookup(parse_ip(probe))) for probe in probes]


def _learned(topology: Topology, networks: Any, vports: Any) -> Any:
    macs = [topology.mac_location(n, 0x02DD_0000_0001) for n in networks if n]
    gateways = [parse_ip("192.0.2.1"), parse_ip("192.0.2.13"), parse_ip("10.0.1.2")]
    neighbors = {
        (v.key, gateway): topology.neighbor_mac(v, gateway)
        for v in vports
        for gateway in gateways
    }
    return sorted(macs), neighbors


FAST = settings(max_examples=60, deadline=None, derandomize=True)
ROWS = full().rows
FINAL = answers(full().topology())


@FAST
@given(st.randoms(use_true_random=False))
def test_rows_in_any_order_make_the_same_topology(order: random.Random) -> None:
    rows = list(ROWS)
    order.shuffle(rows)
    topology = Topology()

    for row in rows:
        apply(topology, row)
        answers(topology)

    assert answers(topology) == FINAL


@FAST
@given(data=st.data())
def test_change_and_its_reverse_give_the_same_answers(data: st.DataObject) -> None:
    topology = full().topology()
    answers(topology)
    rows = data.draw(st.lists(st.sampled_from(ROWS), min_size=1, max_size=6))

    topology.apply(model.Gone(type(row), row.key) for row in rows)
    answers(topology)
    apply(topology, *reversed(rows))

    assert answers(topology) == FINAL


def _changed(row: Any) -> Any:
    """Another row of the same key."""
    if isinstance(row, (model.Vport, model.Network, model.Router)):
        return replace(row, up=False)
    if isinstance(row, model.VportStatus):
        return replace(row, up=False)
    if isinstance(row, model.Route):
        return replace(row, metric=row.metric + 1)
    if isinstance(row, model.Chain):
        return replace(row, rules=row.rules[1:])
    return row


@FAST
@given(data=st.data())
def test_incremental_is_the_same_as_from_scratch(data: st.DataObject) -> None:
    topology = full().topology()
    answers(topology)
    rows = {(type(row), row.key): row for row in ROWS}
    for row in data.draw(st.lists(st.sampled_from(ROWS), max_size=6)):
        key = (type(row), row.key)
        if data.draw(st.booleans()):
            topology.apply([model.Gone(*key)])
            rows.pop(key, None)
        else:
            apply(topology, _changed(row))
            rows[key] = _changed(row)
        answers(topology)

    scratch = Topology()
    apply(scratch, *rows.values())
    assert answers(topology) == answers(scratch)
