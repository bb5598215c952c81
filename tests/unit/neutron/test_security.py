# SPDX-License-Identifier: Apache-2.0
"""Security groups and address groups -> chains and sets of addresses."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.neutron.security import (
    address_group_items,
    host_or_prefix,
    port_chains,
    rule_columns,
    security_group_items,
)


def rule(**columns: Any) -> dict[str, Any]:
    """Make a rule as Neutron's API shows it."""
    return {
        "id": "r1",
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": None,
        "port_range_min": None,
        "port_range_max": None,
        "remote_ip_prefix": None,
        "remote_group_id": None,
        **columns,
    }


def set_columns(**columns: Any) -> dict[str, object]:
    """Return what a rule's row has beyond the defaults."""
    plain = dict(rule_columns(rule()))
    found = dict(rule_columns(rule(**columns)))
    return {name: value for name, value in found.items() if plain[name] != value}


def test_egress_rules_judge_what_comes_from_the_instance() -> None:
    rules = [rule(id="a"), rule(id="b", direction="egress", ethertype="IPv6")]

    items = security_group_items({"id": "g"}, rules, [])

    chains = {i.columns["name"]: i.columns["rules"] for i in items[:2]}
    assert [dict(r)["eth_type"] for r in chains["neutron-sg-g-to"]] == [0x0800]
    assert [dict(r)["eth_type"] for r in chains["neutron-sg-g-from"]] == [0x86DD]


def test_members_are_a_set_of_addresses() -> None:
    items = security_group_items({"id": "g"}, [], ["10.0.0.2", "10.0.0.1", "10.0.0.1"])

    assert items[2].columns["members"] == ("10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"protocol": "tcp"}, {"ip_proto": 6}),
        ({"protocol": "132"}, {"ip_proto": 132}),
        ({"protocol": "0"}, {}),
        (
            {"protocol": "udp", "port_range_min": 53, "port_range_max": 53},
            {"ip_proto": 17, "destination_ports": ("53",)},
        ),
        (
            {"protocol": "tcp", "port_range_min": 1, "port_range_max": 65535},
            {"ip_proto": 6},
        ),
        (
            {"protocol": "tcp", "port_range_min": 80, "port_range_max": 90},
            {"ip_proto": 6, "destination_ports": ("80-90",)},
        ),
        (
            {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0},
            {"ip_proto": 1, "icmp_type": 8, "icmp_code": 0},
        ),
        (
            {"protocol": "icmp", "ethertype": "IPv6", "port_range_min": 128},
            {"ip_proto": 58, "icmp_type": 128, "eth_type": 0x86DD},
        ),
        ({"remote_ip_prefix": "10.0.0.7/24"}, {"source": ("10.0.0.0/24",)}),
        ({"remote_ip_prefix": "0.0.0.0/0"}, {}),
        (
            {"remote_ip_prefix": "10.9.0.0/16", "direction": "egress"},
            {"destination": ("10.9.0.0/16",)},
        ),
        ({"remote_group_id": "h"}, {"source_group": "neutron-sg-h"}),
        ({"remote_address_group_id": "a"}, {"source_group": "neutron-ag-a"}),
    ],
)
def test_rule_has_the_conditions_that_neutron_names(
    columns: dict[str, Any], expected: dict[str, object]
) -> None:
    assert set_columns(**columns) == expected


def test_rules_of_a_stateless_group_read_no_connection_state() -> None:
    assert dict(rule_columns(rule(), stateful=False))["stateless"] is True


def test_port_drops_what_no_group_accepted_and_lets_replies_pass() -> None:
    items = port_chains("p", ["h", "g"], stateful=True)

    to = next(i for i in items if i.columns["name"] == "neutron-port-p-to")
    rules: Any = to.columns["rules"]
    assert to.columns["policy"] == "drop"
    assert dict(rules[0])["ct_states"] == ("established", "related")
    jumps = [dict(r)["jump"] for r in rules if dict(r)["action"] == "jump"]
    assert jumps == ["neutron-sg-g-to", "neutron-sg-h-to"]


def test_stateless_port_has_no_rule_about_connections() -> None:
    items = port_chains("p", ["g"], stateful=False)

    rules: Any = items[0].columns["rules"]
    assert all(not dict(r)["ct_states"] for r in rules)


def test_address_group_keeps_prefixes_and_addresses() -> None:
    group = {"id": "a", "addresses": ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128"]}

    (item,) = address_group_items(group)

    assert item.columns["members"] == ("10.0.0.0/8", "192.0.2.1", "2001:db8::1")


def test_prefix_loses_its_host_bits() -> None:
    assert host_or_prefix("2001:db8::5/64") == "2001:db8::/64"
