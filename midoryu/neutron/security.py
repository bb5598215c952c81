# SPDX-License-Identifier: Apache-2.0
"""Security groups and address groups -> chains, rules and sets of addresses.

Pure. Each group has a chain for each way (`from` the instance: Neutron's egress rules;
`to` it: ingress rules); a port's own chains (`port_chains`) jump to those of its groups
and drop what none of them accepted. ARP and neighbour discovery pass without a rule,
as the simulation lets them; so do packets that virtual devices make.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Union

from midoryu.neutron import unit
from midoryu.nsdb.item import Item, RuleColumns, make_item, make_rule

WAYS: Final = {"egress": "from", "ingress": "to"}
_ETH_TYPES: Final = {"IPv4": 0x0800, "IPv6": 0x86DD}
_ICMP: Final = {"IPv4": 1, "IPv6": 58}
_UDP: Final = 17
# IANA, "Protocol Numbers"; the names that Neutron accepts.
_PROTOCOLS: Final = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": _UDP,
    "udplite": 136,
    "vrrp": 112,
}
# An instance may always ask for an address: RFC 2131 (DHCP), RFC 8415 (DHCPv6).
_DHCP_QUESTIONS: Final = (
    {"eth_type": 0x0800, "source_ports": ("68",), "destination_ports": ("67",)},
    {"eth_type": 0x86DD, "source_ports": ("546",), "destination_ports": ("547",)},
)
_DHCP_ANSWERS: Final = (
    {"eth_type": 0x0800, "source_ports": ("67",), "destination_ports": ("68",)},
    {"eth_type": 0x86DD, "source_ports": ("547",), "destination_ports": ("546",)},
)


def security_group_items(
    group: Mapping[str, Any], rules: Iterable[Mapping[str, Any]], members: Iterable[str]
) -> list[Item]:
    """Make the rows of a security group.

    Args:
        group: the group as the API shows it.
        rules: its rules as the API shows them.
        members: addresses of its ports, if other rules let in by this group.
    """
    by_way: dict[str, list[RuleColumns]] = {"from": [], "to": []}
    stateful = group.get("stateful", True)
    for rule in sorted(rules, key=lambda rule: str(rule["id"])):
        columns = rule_columns(rule, stateful=stateful)
        by_way[WAYS[rule["direction"]]].append(columns)
    items = [
        make_item(
            "Chain",
            {"name": unit.group_chain(group["id"], way), "rules": tuple(columns)},
        )
        for way, columns in by_way.items()
    ]
    name = unit.members_name(group["id"])
    addresses = tuple(sorted(set(members)))
    return [*items, make_item("Address_Group", {"name": name, "members": addresses})]


def address_group_items(group: Mapping[str, Any]) -> list[Item]:
    """Make the row of an address group."""
    name = unit.address_group_name(group["id"])
    members = tuple(sorted({host_or_prefix(text) for text in group["addresses"]}))
    return [make_item("Address_Group", {"name": name, "members": members})]


def port_chains(port: str, groups: Sequence[str], *, stateful: bool) -> list[Item]:
    """Make the two chains of a port that has security groups (or none, and is closed).

    Args:
        port: Neutron's id of the port.
        groups: ids of its security groups.
        stateful: whether replies pass without a rule of their own.
    """
    return [
        make_item(
            "Chain",
            {
                "name": unit.port_chain(port, way),
                "policy": "drop",
                "rules": _port_rules(groups, way, stateful),
            },
        )
        for way in ("from", "to")
    ]


def rule_columns(rule: Mapping[str, Any], *, stateful: bool = True) -> RuleColumns:
    """Make a rule."""
    columns: dict[str, object] = {"action": "accept"}
    if not stateful:
        columns["stateless"] = True
    family = rule["ethertype"]
    columns["eth_type"] = _ETH_TYPES[family]
    protocol = protocol_number(rule.get("protocol"), family)
    if protocol is not None:
        columns["ip_proto"] = protocol
    columns.update(_ports(rule, protocol))
    side = "source" if rule["direction"] == "ingress" else "destination"
    prefix = rule.get("remote_ip_prefix")
    if prefix and not prefix.endswith("/0"):
        columns[side] = (host_or_prefix(prefix),)
    if rule.get("remote_group_id"):
        columns[f"{side}_group"] = unit.members_name(rule["remote_group_id"])
    elif rule.get("remote_address_group_id"):
        name = unit.address_group_name(rule["remote_address_group_id"])
        columns[f"{side}_group"] = name
    return make_rule(columns)


def protocol_number(protocol: object, family: str) -> Union[int, None]:
    """Return the number of a protocol that Neutron names; None for any."""
    if protocol in (None, "", "any"):
        return None
    text = str(protocol).lower()
    if text in ("icmp", "1", "ipv6-icmp", "icmpv6", "58"):
        return _ICMP[family]
    number = int(text) if text.isdecimal() else _PROTOCOLS[text]
    return number or None


def host_or_prefix(text: str) -> str:
    """Write a prefix as rows hold it: no host bits, no length for one address."""
    network = ipaddress.ip_network(text, strict=False)
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


def _ports(rule: Mapping[str, Any], protocol: object) -> dict[str, object]:
    low, high = rule.get("port_range_min"), rule.get("port_range_max")
    if protocol in _ICMP.values():
        # Neutron keeps type and code where other protocols have ports.
        return {
            name: value
            for name, value in (("icmp_type", low), ("icmp_code", high))
            if value is not None
        }
    if low is None and high is None:
        return {}
    low, high = (high if low is None else low), (low if high is None else high)
    if (low, high) in ((1, 0xFFFF), (0, 0xFFFF)):
        return {}
    return {"destination_ports": (str(low) if low == high else f"{low}-{high}",)}


def _port_rules(groups: Sequence[str], way: str, stateful: bool) -> tuple[Any, ...]:
    rules = []
    if stateful:
        known = {"action": "accept", "ct_states": ("established", "related")}
        rules.append(make_rule(known))
    dhcp = _DHCP_QUESTIONS if way == "from" else _DHCP_ANSWERS
    rules += [
        make_rule({"action": "accept", "ip_proto": _UDP, **columns}) for columns in dhcp
    ]
    for group in sorted(groups):
        chain = unit.group_chain(group, way)
        rules.append(make_rule({"action": "jump", "jump": chain}))
    return tuple(rules)
