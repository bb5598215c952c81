# SPDX-License-Identifier: Apache-2.0
"""A Neutron port of an instance -> its rows: the port and its chains.

Pure. Ports of routers are made by `router`, both ends at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Final, Union

from midoryu.compat import SLOTS
from midoryu.neutron import unit
from midoryu.neutron.label import INSTANCE_KEY, PROJECT_KEY, labelled
from midoryu.neutron.security import host_or_prefix, port_chains
from midoryu.neutron.subnet import dhcp_options
from midoryu.nsdb.item import Item, Value, make_item

ROUTER_OWNERS: Final = (
    "network:router_interface",
    "network:router_gateway",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
    "network:router_centralized_snat",
)
"""`device_owner` of ports that a router has."""
FLOATING_OWNER: Final = "network:floatingip"
"""`device_owner` of the ports that only reserve an address."""


@dataclass(frozen=True, **SLOTS)
class SubPort:
    """A port's place in a trunk."""

    parent: str
    """Name of the parent port's row."""
    vlan: int
    """VLAN ID 1..4094 by which the instance knows it."""


def port_items(
    port: Mapping[str, Any],
    *,
    stateful: bool = True,
    sub_port: Union[SubPort, None] = None,
    has_limits: Callable[[str], bool] = lambda _: True,
    migrating_to: str = "",
) -> list[Item]:
    """Make the rows of a port; none for a router's.

    Args:
        port: the port as the API shows it.
        stateful: whether one of its security groups is.
        sub_port: its place in a trunk, if it has one.
        has_limits: whether a QoS policy has rules that midoryu knows.
        migrating_to: host that its instance moves to, "" for none.
    """
    owner = port.get("device_owner") or ""
    if owner in ROUTER_OWNERS or owner == FLOATING_OWNER:
        return []
    columns: dict[str, Value] = {
        "name": port["id"],
        "network": unit.device_name(port["network_id"]),
        "mac": port["mac_address"].lower(),
        "addresses": tuple(sorted(fixed["ip_address"] for fixed in port["fixed_ips"])),
        "interface_id": port["id"],
        "up": port["admin_state_up"],
    }
    if port.get("dns_name"):
        columns["hostname"] = port["dns_name"]
    options = port.get("extra_dhcp_opts") or ()
    columns["dhcp_options"] = dhcp_options(options, 4)
    columns["dhcp6_options"] = dhcp_options(options, 6)
    if sub_port is not None:
        columns["parent"], columns["vlan"] = sub_port.parent, sub_port.vlan
    policy = port.get("qos_policy_id") or port.get("qos_network_policy_id")
    if policy and has_limits(policy):
        columns["qos"] = unit.policy_name(policy)
    items: list[Item] = []
    host = port.get("binding:host_id")
    if host:
        columns["host"] = host
        items.append(make_item("Host", {"name": host}))
    if host and migrating_to not in ("", host):
        columns["migrating_to"] = migrating_to
        items.append(make_item("Host", {"name": migrating_to}))
    if port.get("port_security_enabled", True) and not _is_trusted(owner):
        columns["port_security"] = True
        columns["allowed"] = allowed_sources(port)
        columns["ingress_chain"] = unit.port_chain(port["id"], "from")
        columns["egress_chain"] = unit.port_chain(port["id"], "to")
        groups = port.get("security_groups") or []
        items += port_chains(port["id"], groups, stateful=stateful or not groups)
    labels = {
        INSTANCE_KEY: port.get("device_id") or "",
        PROJECT_KEY: port.get("project_id") or "",
    }
    return [*items, labelled(make_item("Port", columns), labels)]


def allowed_sources(port: Mapping[str, Any]) -> tuple[str, ...]:
    """Write the allowed address pairs as rows hold them."""
    own = port["mac_address"].lower()
    found = set()
    for pair in port.get("allowed_address_pairs") or ():
        prefix = host_or_prefix(pair["ip_address"])
        mac = (pair.get("mac_address") or own).lower()
        found.add(prefix if mac == own else f"{mac} {prefix}")
    return tuple(sorted(found))


def _is_trusted(owner: str) -> bool:
    # Neutron's own: as in every back end, no filter for DHCP servers and the like.
    return owner.startswith("network:")
