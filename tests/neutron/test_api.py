# SPDX-License-Identifier: Apache-2.0
"""What the API offers, and which rows its calls leave in the NSDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from midoryu.neutron.extensions import L3_EXTENSIONS
from midoryu.nsdb.item import Item, ItemId, items_of
from tests.functional.nsdb_server import Agent, Server, turn_until
from tests.neutron.cloud import Cloud


def items(nsdb: Server) -> dict[ItemId, Item]:
    """Return what the NSDB has."""
    with nsdb.session() as session:
        return {key: item for key, (item, _) in items_of(session.tables).items()}


@pytest.fixture
def alive(nsdb: Server) -> Iterator[str]:
    """Have a host whose agent is connected; it does nothing else."""
    agent = Agent(nsdb, "alive", 0x7F00_0001)
    turn_until([agent], lambda: nsdb_knows(nsdb, "alive"))
    yield "alive"
    agent.client.close()


def nsdb_knows(nsdb: Server, host: str) -> bool:
    """Tell whether a host has registered."""
    return ("Host", host) in items(nsdb)


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Any:
    return cloud.admin()


@pytest.fixture(scope="module")
def network(admin: Any) -> Any:
    network = admin.create_network(name="api")
    admin.create_subnet(network_id=network.id, ip_version=4, cidr="10.8.0.0/24")
    return network


def test_extensions_are_those_with_something_behind_them(admin: Any) -> None:
    aliases = {extension.alias for extension in admin.extensions()}

    assert {"router", "trunk", "qos", "port-security", "address-group"} <= aliases
    assert set(L3_EXTENSIONS) & {"extraroute", "ext-gw-mode"} <= aliases
    assert not aliases & {"dvr", "l3-ha", "l3_agent_scheduler", "dhcp_agent_scheduler"}


def test_tenant_network_needs_no_number(admin: Any, network: Any) -> None:
    assert network.provider_network_type == "midoryu"
    assert network.provider_segmentation_id is None
    assert network.mtu == 1500 - 42


def test_port_binds_where_an_agent_is_and_tells_nova_how(
    admin: Any, network: Any, nsdb: Server, alive: str
) -> None:
    port = admin.create_port(network_id=network.id, binding_host_id=alive)
    stray = admin.create_port(network_id=network.id, binding_host_id="nowhere")

    assert port.binding_vif_type == "ovs"
    assert port.binding_vif_details == {
        "port_filter": True,
        "connectivity": "l2",
        "bridge_name": "br-int",
        "datapath_type": "netdev",
        "ovs_create_tap": True,
        "bound_drivers": {"0": "midoryu"},
    }
    assert port.status == "DOWN"
    assert stray.binding_vif_type == "binding_failed"
    row = items(nsdb)["Port", f"neutron-{network.id}/{port.id}"]
    assert row.columns["host"] == "alive"


def test_port_does_not_bind_where_the_agent_is_gone(
    admin: Any, network: Any, nsdb: Server
) -> None:
    agent = Agent(nsdb, "gone", 0x7F00_0002)
    turn_until([agent], lambda: nsdb_knows(nsdb, "gone"))
    first = admin.create_port(network_id=network.id, binding_host_id="gone")
    agent.client.close()

    second = admin.create_port(network_id=network.id, binding_host_id="gone")

    assert first.binding_vif_type == "ovs"
    assert second.binding_vif_type == "binding_failed"


def test_vlan_network_is_a_sub_port_of_the_gateways_interface(
    admin: Any, nsdb: Server
) -> None:
    vlan = admin.create_network(
        provider_network_type="vlan",
        provider_physical_network="public",
        provider_segmentation_id=107,
    )
    name = f"neutron-{vlan.id}/uplink-public@g1.107"
    row = items(nsdb)["Port", name]
    assert row.columns["vlan"] == 107
    holder = "neutron-physical-public/uplink-public@g1"
    assert row.columns["parent"] == holder

    flat = admin.create_network(
        provider_network_type="flat", provider_physical_network="public"
    )
    found = items(nsdb)
    new = f"neutron-{flat.id}/uplink-public@g1"
    assert found["Port", name].columns["parent"] == new
    assert found["Port", new].columns["interface_id"] == "public@g1"
    assert ("Port", holder) not in found

    admin.delete_network(flat.id)
    assert items(nsdb)["Port", name].columns["parent"] == holder
    admin.delete_network(vlan.id)
    assert ("Network", "neutron-physical-public") not in items(nsdb)


def test_trunk_tells_sub_ports_apart_by_tag(
    admin: Any, network: Any, nsdb: Server
) -> None:
    parent = admin.create_port(network_id=network.id)
    other = admin.create_network(name="inner")
    child = admin.create_port(network_id=other.id)
    name = f"neutron-{other.id}/{child.id}"
    tag = {"port_id": child.id, "segmentation_type": "vlan", "segmentation_id": 12}

    trunk = admin.create_trunk(port_id=parent.id, sub_ports=[tag])
    row = items(nsdb)["Port", name]
    assert row.columns["parent"] == f"neutron-{network.id}/{parent.id}"
    assert row.columns["vlan"] == 12

    admin.delete_trunk_subports(trunk, [{"port_id": child.id}])
    assert items(nsdb)["Port", name].columns["parent"] is None


def test_qos_policy_limits_its_ports(admin: Any, network: Any, nsdb: Server) -> None:
    policy = admin.create_qos_policy(name="slow")
    port = admin.create_port(network_id=network.id, qos_policy_id=policy.id)
    name = f"neutron-{network.id}/{port.id}"
    assert items(nsdb)["Port", name].columns["qos"] is None

    rule = admin.create_qos_bandwidth_limit_rule(
        policy.id, max_kbps=2000, max_burst_kbps=200, direction="egress"
    )
    admin.create_qos_dscp_marking_rule(policy.id, dscp_mark=26)

    found = items(nsdb)
    assert found["Port", name].columns["qos"] == f"neutron-qos-{policy.id}"
    row = found["Qos", f"neutron-qos-{policy.id}"]
    assert (row.columns["egress_kbps"], row.columns["dscp"]) == (2000, 26)
    admin.delete_qos_bandwidth_limit_rule(rule, policy.id)
    row = items(nsdb)["Qos", f"neutron-qos-{policy.id}"]
    assert row.columns["egress_kbps"] is None


@pytest.mark.parametrize("kind", ["minimum_bandwidth", "packet_rate_limit"])
def test_qos_rules_that_nobody_would_keep_are_refused(
    admin: Any, network: Any, alive: str, kind: str
) -> None:
    policy = admin.create_qos_policy(name="wish")
    port = admin.create_port(
        network_id=network.id, binding_host_id=alive, qos_policy_id=policy.id
    )
    rule = {"minimum_bandwidth": {"min_kbps": 1000}}.get(kind, {"max_kpps": 10})
    body = {f"{kind}_rule": {**rule, "direction": "egress"}}

    answer = admin.post(f"/qos/policies/{policy.id}/{kind}_rules", json=body)

    assert answer.status_code == 409
    assert "not supported" in answer.json()["NeutronError"]["message"]
    admin.delete_port(port.id)


def test_address_group_follows_its_members(admin: Any, nsdb: Server) -> None:
    group = admin.create_address_group(name="friends", addresses=["10.1.0.0/16"])
    name = ("Address_Group", f"neutron-ag-{group.id}")
    assert items(nsdb)[name].columns["members"] == ("10.1.0.0/16",)

    admin.add_addresses_to_address_group(group, ["192.0.2.7/32"])
    assert items(nsdb)[name].columns["members"] == ("10.1.0.0/16", "192.0.2.7")

    admin.delete_address_group(group.id)
    assert name not in items(nsdb)


def test_remote_group_has_its_ports_addresses(
    admin: Any, network: Any, nsdb: Server
) -> None:
    friends = admin.create_security_group(name="friends")
    doors = admin.create_security_group(name="doors")
    port = admin.create_port(network_id=network.id, security_groups=[friends.id])
    address = port.fixed_ips[0]["ip_address"]
    name = ("Address_Group", f"neutron-sg-{friends.id}")
    assert items(nsdb)[name].columns["members"] == ()

    admin.create_security_group_rule(
        security_group_id=doors.id,
        direction="ingress",
        ethertype="IPv4",
        remote_group_id=friends.id,
    )
    assert items(nsdb)[name].columns["members"] == (address,)

    admin.delete_port(port.id)
    assert items(nsdb)[name].columns["members"] == ()
    admin.delete_security_group(friends.id)
    found = items(nsdb)
    assert name not in found
    rules: Any = found["Chain", f"neutron-sg-{doors.id}-to"].columns["rules"]
    assert rules == ()


def test_ipv6_subnet_advertises_once_a_router_is_on_it(
    admin: Any, nsdb: Server
) -> None:
    network = admin.create_network(name="six")
    subnet = admin.create_subnet(
        network_id=network.id,
        ip_version=6,
        cidr="2001:db8:6::/64",
        ipv6_ra_mode="slaac",
        ipv6_address_mode="slaac",
    )
    name = ("Subnet", f"neutron-{network.id} 2001:db8:6::/64")
    assert items(nsdb)[name].columns["ra_mode"] is None

    router = admin.create_router(name="six")
    admin.add_interface_to_router(router.id, subnet_id=subnet.id)
    assert items(nsdb)[name].columns["ra_mode"] == "slaac"
    port = next(iter(admin.ports(device_id=router.id)))
    assert port.status == "ACTIVE"

    admin.remove_interface_from_router(router.id, subnet_id=subnet.id)
    admin.delete_router(router.id)
    admin.delete_network(network.id)
    left = [key for key in items(nsdb) if router.id in key[1] or network.id in key[1]]
    assert left == []


def test_extra_routes_and_gateway_modes_follow_the_router(
    admin: Any, network: Any, nsdb: Server
) -> None:
    outside = admin.create_network(name="outside", is_router_external=True)
    admin.create_subnet(
        network_id=outside.id, ip_version=4, cidr="198.51.100.0/24", enable_dhcp=False
    )
    subnet = next(iter(admin.subnets(network_id=network.id)))
    router = admin.create_router(external_gateway_info={"network_id": outside.id})
    admin.add_interface_to_router(router.id, subnet_id=subnet.id)
    mine = f"neutron-{router.id}"

    def nats() -> list[str]:
        found = items(nsdb).values()
        own = [i for i in found if i.table == "Nat" and i.columns["router"] == mine]
        return sorted(str(i.columns["type"]) for i in own)

    assert nats() == ["masquerade"]
    admin.update_router(
        router.id,
        external_gateway_info={"network_id": outside.id, "enable_snat": False},
        routes=[{"destination": "10.99.0.0/16", "nexthop": "10.8.0.9"}],
    )
    assert nats() == []
    assert ("Route", f"{mine} to 10.99.0.0/16 via 10.8.0.9 metric 0") in items(nsdb)
