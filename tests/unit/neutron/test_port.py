# SPDX-License-Identifier: Apache-2.0
"""A Neutron port -> its rows."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.neutron.port import SubPort, port_items
from midoryu.nsdb.item import Item


def port(**columns: Any) -> dict[str, Any]:
    """Make a port as Neutron's API shows it."""
    return {
        "id": "p",
        "network_id": "n",
        "mac_address": "FA:16:3E:00:00:01",
        "fixed_ips": [{"ip_address": "10.0.0.5", "subnet_id": "s"}],
        "admin_state_up": True,
        "device_owner": "compute:nova",
        "port_security_enabled": True,
        "security_groups": ["g"],
        **columns,
    }


def row(items: list[Item]) -> Item:
    """Return the port's row among its items."""
    return next(item for item in items if item.table == "Port")


def test_port_has_what_os_vif_will_name() -> None:
    found = row(port_items(port(**{"binding:host_id": "h1"})))

    assert found.name == "neutron-n/p"
    assert found.columns["interface_id"] == "p"
    assert found.columns["mac"] == "fa:16:3e:00:00:01"
    assert found.columns["addresses"] == ("10.0.0.5",)
    assert found.columns["host"] == "h1"


@pytest.mark.parametrize("target", ["", "h1"])
def test_port_that_goes_nowhere_has_no_second_host(target: str) -> None:
    found = row(port_items(port(**{"binding:host_id": "h1"}), migrating_to=target))

    assert not found.columns["migrating_to"]


def test_port_that_migrates_has_a_second_host() -> None:
    items = port_items(port(**{"binding:host_id": "h1"}), migrating_to="h2")

    assert row(items).columns["migrating_to"] == "h2"
    assert {item.name for item in items if item.table == "Host"} == {"h1", "h2"}


def test_secure_port_has_chains_for_both_ways() -> None:
    items = port_items(port())

    found = row(items)
    names = {item.name for item in items if item.table == "Chain"}
    assert found.columns["port_security"] is True
    assert names == {found.columns["ingress_chain"], found.columns["egress_chain"]}
    assert found.columns["ingress_chain"] == "neutron-port-p-from"


@pytest.mark.parametrize(
    "columns", [{"port_security_enabled": False}, {"device_owner": "network:dhcp"}]
)
def test_port_without_security_is_open(columns: dict[str, Any]) -> None:
    items = port_items(port(**columns))

    assert [item.table for item in items] == ["Port"]
    assert items[0].columns["port_security"] is False


def test_port_without_groups_is_closed() -> None:
    items = port_items(port(security_groups=[]), stateful=False)

    chains = [item for item in items if item.table == "Chain"]
    assert [chain.columns["policy"] for chain in chains] == ["drop", "drop"]


def test_address_pairs_may_send_too() -> None:
    pairs = [
        {"ip_address": "10.0.0.9/24", "mac_address": "fa:16:3e:00:00:01"},
        {"ip_address": "10.0.0.7", "mac_address": "fa:16:3e:00:00:02"},
    ]

    found = row(port_items(port(allowed_address_pairs=pairs)))

    assert found.columns["allowed"] == ("10.0.0.0/24", "fa:16:3e:00:00:02 10.0.0.7")


@pytest.mark.parametrize(
    "owner",
    ["network:router_interface", "network:router_gateway", "network:floatingip"],
)
def test_ports_of_routers_and_floating_addresses_are_not_here(owner: str) -> None:
    assert port_items(port(device_owner=owner)) == []


def test_sub_port_names_its_parent_and_tag() -> None:
    found = row(port_items(port(), sub_port=SubPort("neutron-m/parent", 42)))

    assert (found.columns["parent"], found.columns["vlan"]) == ("neutron-m/parent", 42)


def test_port_takes_its_networks_policy_if_it_has_none() -> None:
    found = row(port_items(port(qos_network_policy_id="q")))
    own = row(port_items(port(qos_policy_id="own", qos_network_policy_id="q")))

    assert found.columns["qos"] == "neutron-qos-q"
    assert own.columns["qos"] == "neutron-qos-own"


def test_policy_without_known_rules_is_left_out() -> None:
    found = row(port_items(port(qos_policy_id="q"), has_limits=lambda _: False))

    assert found.columns["qos"] is None


def test_extra_dhcp_options_go_by_version_and_bad_ones_are_left_out() -> None:
    options = [
        {"opt_name": "bootfile-name", "opt_value": "pxe.0", "ip_version": 4},
        {"opt_name": "option:ntp-server", "opt_value": "10.0.0.1", "ip_version": 4},
        {"opt_name": "dns-server", "opt_value": "2001:db8::1", "ip_version": 6},
        {"opt_name": "no-such-option", "opt_value": "1", "ip_version": 4},
    ]

    found = row(port_items(port(extra_dhcp_opts=options, dns_name="vm1")))

    expected = ("bootfile-name=pxe.0", "ntp-server=10.0.0.1")
    assert found.columns["dhcp_options"] == expected
    assert found.columns["dhcp6_options"] == ("dns-server=2001:db8::1",)
    assert found.columns["hostname"] == "vm1"
