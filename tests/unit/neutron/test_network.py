# SPDX-License-Identifier: Apache-2.0
"""A Neutron network -> its rows."""

from __future__ import annotations

from midoryu.neutron.network import Segment, network_items, physical_items

NETWORK = {"id": "n", "admin_state_up": True, "mtu": 1450}
GATEWAYS = {"public": ("h1", "h2")}
HOLDERS = {"public": "neutron-physical-public"}


def test_tenant_network_is_a_switch_and_nothing_else() -> None:
    (item,) = network_items(NETWORK, gateways=GATEWAYS, holders={})

    assert item.columns["name"] == "neutron-n"
    assert item.columns["mtu"] == 1450


def test_flat_network_has_an_uplink_on_each_gateway_in_one_ingress_set() -> None:
    items = network_items(
        NETWORK, segments=[Segment("public")], gateways=GATEWAYS, holders=HOLDERS
    )

    uplinks = [item for item in items if item.table == "Port"]
    assert [u.columns["interface_id"] for u in uplinks] == ["public@h1", "public@h2"]
    assert [u.columns["host"] for u in uplinks] == ["h1", "h2"]
    assert items[-1].table == "Port_Group"
    assert items[-1].columns["ports"] == tuple(u.name for u in uplinks)


def test_each_segment_has_a_set_of_its_own() -> None:
    segments = [Segment("public"), Segment("public", 7)]
    items = network_items(
        NETWORK, segments=segments, gateways=GATEWAYS, holders=HOLDERS, all_active=True
    )

    groups = [item for item in items if item.table == "Port_Group"]
    assert [str(one.columns["ports"]).count("uplink") for one in groups] == [2, 2]
    assert groups[0].name == "neutron-n"
    assert groups[1].name == "neutron-n-public.7"


def test_interfaces_of_a_physical_network_are_ways_to_one_segment() -> None:
    *_, last = physical_items("public", ["h1", "h2"], all_active=True)

    assert last.table == "Port_Group"
    assert last.columns["ports"] == (
        "neutron-physical-public/uplink-public@h1",
        "neutron-physical-public/uplink-public@h2",
    )


def test_first_gateway_carries_unless_all_shall() -> None:
    def up(**options: bool) -> list[object]:
        items = network_items(
            NETWORK,
            segments=[Segment("public")],
            gateways=GATEWAYS,
            holders=HOLDERS,
            **options,
        )
        return [item.columns["up"] for item in items if item.table == "Port"]

    assert up() == [True, False]
    assert up(all_active=True) == [True, True]


def test_vlan_network_has_sub_ports_of_the_physical_interface() -> None:
    items = network_items(
        NETWORK, segments=[Segment("public", 7)], gateways=GATEWAYS, holders=HOLDERS
    )

    uplink = next(item for item in items if item.table == "Port")
    (holder,) = [i for i in physical_items("public", ["h1"]) if i.table == "Port"]
    assert uplink.columns["vlan"] == 7
    assert uplink.columns["parent"] == holder.name
    assert holder.columns["interface_id"] == "public@h1"


def test_physical_network_without_a_gateway_gives_no_uplink() -> None:
    items = network_items(
        NETWORK, segments=[Segment("other")], gateways=GATEWAYS, holders={}
    )

    assert [item.table for item in items] == ["Network"]
