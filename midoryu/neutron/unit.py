# SPDX-License-Identifier: Apache-2.0
"""What is written to the NSDB as a whole, and what its rows are called.

Names follow from Neutron's ids alone, so every process gives the same name. `owner_of`
goes the way back: who has to write a row that others refer to.
"""

from __future__ import annotations

from typing import Final, Union

Unit = str
"""`KIND:ID`, for instance `port:2f1c...`."""

NETWORK: Final = "network"
PORT: Final = "port"
SECURITY_GROUP: Final = "security-group"
ADDRESS_GROUP: Final = "address-group"
ROUTER: Final = "router"
QOS_POLICY: Final = "qos-policy"
PHYSICAL: Final = "physical-network"
"""A physical network of which only VLANs are used; its id is its name."""
KINDS: Final = (
    QOS_POLICY,
    PHYSICAL,
    NETWORK,
    SECURITY_GROUP,
    ADDRESS_GROUP,
    PORT,
    ROUTER,
)
"""Kinds of units; those that others refer to come first."""

_PREFIX: Final = "neutron-"
_PHYSICAL: Final = "physical-"
_UPLINK: Final = "uplink-"


def unit(kind: str, ident: str) -> Unit:
    """Name the unit of a resource."""
    return f"{kind}:{ident}"


def kind_and_id(name: Unit) -> tuple[str, str]:
    """Take a unit's name apart."""
    kind, _, ident = name.partition(":")
    return kind, ident


def device_name(ident: str) -> str:
    """Name the row of a network or router."""
    return f"{_PREFIX}{ident}"


def port_name(device: str, port: str) -> str:
    """Name a port as rows that refer to it do; `device` is a Neutron id."""
    return f"{device_name(device)}/{port}"


def uplink_name(device: str, physical_network: str, host: str, vlan: int = 0) -> str:
    """Name a host's way into a physical network; `device` is the name of a row."""
    tail = f".{vlan}" if vlan else ""
    return f"{device}/{_UPLINK}{physical_network}@{host}{tail}"


def port_chain(port: str, way: str) -> str:
    """Name a port's own chain; `way` is `from` or `to` the instance."""
    return f"{_PREFIX}port-{port}-{way}"


def group_chain(group: str, way: str) -> str:
    """Name a security group's chain."""
    return f"{_PREFIX}sg-{group}-{way}"


def members_name(group: str) -> str:
    """Name the set of addresses of a security group's ports."""
    return f"{_PREFIX}sg-{group}"


def address_group_name(group: str) -> str:
    """Name an address group's row."""
    return f"{_PREFIX}ag-{group}"


def policy_name(policy: str) -> str:
    """Name a QoS policy's row."""
    return f"{_PREFIX}qos-{policy}"


def physical_name(physical_network: str) -> str:
    """Name the switch that a physical network's interfaces are at by default."""
    return f"{_PREFIX}{_PHYSICAL}{physical_network}"


def owner_of(table: str, name: str) -> Union[Unit, None]:
    """Tell which unit writes a row that others refer to; None for rows of others."""
    if table == "Host" or not name.startswith(_PREFIX):
        return None
    rest = name[len(_PREFIX) :]
    if table == "Port":
        device, _, port = rest.partition("/")
        if not port.startswith(_UPLINK):
            return unit(PORT, port)
        table, rest = "Network", device
    if table == "Network":
        if rest.startswith(_PHYSICAL):
            return unit(PHYSICAL, rest[len(_PHYSICAL) :])
        return unit(NETWORK, rest)
    if table == "Qos":
        return unit(QOS_POLICY, rest[4:])
    if table == "Router":
        return unit(ROUTER, rest)
    if table == "Address_Group":
        kind, _, ident = rest.partition("-")
        return unit(SECURITY_GROUP if kind == "sg" else ADDRESS_GROUP, ident)
    if table == "Chain" and rest.startswith("sg-"):
        return unit(SECURITY_GROUP, rest[3:].rpartition("-")[0])
    return None
