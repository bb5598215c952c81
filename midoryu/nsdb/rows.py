# SPDX-License-Identifier: Apache-2.0
"""One database row -> one value of `topology.model`.

`replica` decides which rows need converting; nothing here remembers anything. A row
that makes no valid value raises `BadRowError`, whatever is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Union

from midoryu.errors import TopologyError
from midoryu.nsdb import balancer_rows, l2_rows, service_rows
from midoryu.nsdb.schema import (
    allowed_from_text,
    interface_from_text,
    mac_from_text,
    ports_from_text,
    station_from_text,
)
from midoryu.packet.address import Prefix, is_v4, parse_ip, parse_prefix
from midoryu.topology import model

Key = Union[int, str]
RowName = tuple[type, Key]
_FILTERING: Final = model.Filtering.ADDRESS_AND_PORT_DEPENDENT


class BadRowError(TopologyError):
    """A database row does not make a valid value."""


def convert(table: str, row: Any) -> model.Row | None:
    """Make the value of a row (`thin_row.View`); None where it only serves others.

    Raises:
        BadRowError: the row does not make a valid value.
    """
    converter = CONVERTERS.get(table)
    if converter is None:
        return None
    try:
        return converter(row)
    except (ValueError, AttributeError) as problem:
        raise BadRowError(f"{table} {row.uuid}: {problem}") from problem


def row_name(value: model.Row) -> RowName:
    """Return kind and key, which together name a value."""
    return type(value), value.key


def natural_key(value: model.Row) -> tuple[object, ...]:
    """Return what names a value to those who do not know its UUID."""
    kind = type(value)
    if isinstance(value, model.MacEntry):
        return kind, value.network, value.mac
    if isinstance(value, model.Neighbor):
        return kind, value.router, value.address
    if isinstance(value, model.Lease):
        return kind, value.router, value.address, value.block
    if isinstance(value, model.MulticastMember):
        return kind, value.network, value.group, value.vport
    if isinstance(value, model.VportReady):
        return kind, value.vport, value.host
    if isinstance(value, model.Host):
        return kind, value.name
    return kind, value.key


def used_rows(table: str, row: Any) -> list[Any]:
    """List the rows whose *content* (not only key or UUID) is in a row's value."""
    return list(row.rules.values()) if table == "Chain" else []


def _key_of(row: Any) -> int:
    if row is None:
        raise ValueError("refers to a row that does not exist")
    return int(row.key)


def _optional_key(column: list[Any]) -> int:
    return _key_of(column[0]) if column else 0


def _optional_uuid(column: list[Any]) -> str:
    return str(column[0].uuid) if column else ""


def _host(row: Any) -> model.Host:
    underlay = parse_ip(row.underlay[0]) if row.underlay else 0
    return model.Host(row.key, row.name, underlay)


def _network(row: Any) -> model.Network:
    return model.Network(
        row.key,
        row.name,
        row.up,
        _optional_uuid(row.ingress_chain),
        _optional_uuid(row.egress_chain),
        mtu=row.mtu[0] if row.mtu else 0,
        **l2_rows.network_options(row),
    )


def _router(row: Any) -> model.Router:
    return model.Router(
        row.key,
        row.name,
        row.up,
        _optional_uuid(row.ingress_chain),
        _optional_uuid(row.egress_chain),
    )


def _vport(row: Any) -> model.Vport:
    devices = row.network + row.router
    if len(devices) != 1:
        raise ValueError("belongs to no device or to two")
    mac = mac_from_text(row.mac[0]) if row.mac else 0
    if row.router and not mac:
        raise ValueError("is a router's port and has no MAC address")
    peer = _optional_key(row.peer)
    return model.Vport(
        key=row.key,
        name=row.name,
        device=_key_of(devices[0]),
        mac=mac,
        addresses=tuple(sorted(map(interface_from_text, row.addresses))),
        peer=peer,
        host=_optional_key(row.host),
        migrating_to=_optional_key(row.migrating_to),
        iface_id="" if peer or row.parent else row.interface_id,
        up=row.up,
        ingress_chain=_optional_uuid(row.ingress_chain),
        egress_chain=_optional_uuid(row.egress_chain),
        port_security=row.port_security,
        allowed=tuple(sorted(map(allowed_from_text, row.allowed))),
        mtu=row.mtu[0] if row.mtu else 0,
        mss_clamp=row.mss_clamp[0] if row.mss_clamp else 0,
        **l2_rows.vport_options(row),
        **service_rows.vport_options(row),
    )


def _vport_status(row: Any) -> model.VportStatus:
    return model.VportStatus(
        _key_of(row.port), _key_of(row.host), row.up, bool(row.early)
    )


def _vport_ready(row: Any) -> model.VportReady:
    return model.VportReady(str(row.uuid), _key_of(row.port), _key_of(row.host))


def _route(row: Any) -> model.Route:
    kind = model.RouteKind(row.kind)
    gateway = parse_ip(row.gateway[0]) if row.gateway else 0
    if kind is model.RouteKind.FORWARD and not gateway and not row.port:
        raise ValueError("forwards, but names neither gateway nor port")
    return model.Route(
        key=str(row.uuid),
        router=_key_of(row.router),
        destination=parse_prefix(row.destination),
        kind=kind,
        gateway=gateway,
        vport=_optional_key(row.port),
        weight=row.weight,
        metric=row.metric,
        source=_prefix_or_any(row.source),
    )


def _prefix_or_any(column: list[str]) -> Prefix:
    return parse_prefix(column[0]) if column else Prefix(0, 0)


def _chain(row: Any) -> model.Chain:
    rules = sorted(row.rules.items())
    return model.Chain(
        key=str(row.uuid),
        name=row.name,
        rules=tuple(_rule(rule) for _, rule in rules),
        accept=row.policy == "accept",
        keep_live=row.keep_live,
    )


def _rule(row: Any) -> model.Rule:
    action = model.RuleAction(row.action)
    if (action is model.RuleAction.JUMP) != bool(row.jump):
        raise ValueError(f"rule {row.uuid}: a chain to jump to and action differ")
    ct_states = 0
    for name in row.ct_states:
        ct_states |= model.CT_STATES[name]
    return model.Rule(
        action=action,
        jump=_optional_uuid(row.jump),
        ct_states=ct_states,
        eth_type=row.eth_type[0] if row.eth_type else 0,
        ip_proto=row.ip_proto[0] if row.ip_proto else 0,
        source=tuple(sorted(map(parse_prefix, row.source))),
        not_source=row.not_source,
        destination=tuple(sorted(map(parse_prefix, row.destination))),
        not_destination=row.not_destination,
        source_group=_group(row, row.source_group, row.source_port_group),
        destination_group=_group(
            row, row.destination_group, row.destination_port_group
        ),
        source_ports=tuple(sorted(map(ports_from_text, row.source_ports))),
        not_source_ports=row.not_source_ports,
        destination_ports=tuple(sorted(map(ports_from_text, row.destination_ports))),
        not_destination_ports=row.not_destination_ports,
        icmp_type=row.icmp_type[0] if row.icmp_type else -1,
        icmp_code=row.icmp_code[0] if row.icmp_code else -1,
        log=row.log[0] if row.log else "",
        stateless=row.stateless,
    )


def _group(rule: Any, addresses: list[Any], ports: list[Any]) -> str:
    if addresses and ports:
        raise ValueError(
            f"rule {rule.uuid}: names an address group and a port group for one end"
        )
    return _optional_uuid(addresses or ports)


def _address_group(row: Any) -> model.AddressGroup:
    members = frozenset(map(parse_prefix, row.members))
    return model.AddressGroup(str(row.uuid), row.name, members)


def _port_group(row: Any) -> model.IngressSet | model.PortGroup:
    vports = frozenset(map(_key_of, row.ports))
    kind = model.IngressSet if row.stateful else model.PortGroup
    return kind(str(row.uuid), row.name, vports)


def _nat(row: Any) -> model.Row:
    addresses = tuple(sorted(map(parse_ip, row.addresses)))
    if row.type == "masquerade":
        return _masquerade(row, addresses)
    if len(addresses) != 1 or not row.to_address:
        raise ValueError(f"{row.type} needs one address and one target")
    target = parse_ip(row.to_address[0])
    if is_v4(target) != is_v4(addresses[0]):
        raise ValueError(f"{row.type} from one address family to the other")
    key, router = str(row.uuid), _key_of(row.router)
    if row.type == "floating":
        return model.FloatingIp(key, router, addresses[0], target)
    return model.Dnat(
        key=key,
        router=router,
        address=addresses[0],
        to_address=target,
        ip_proto=row.ip_proto[0] if row.ip_proto else 0,
        ports=ports_from_text(row.ports[0]) if row.ports else (0, 0xFFFF),
        to_port=row.to_port[0] if row.to_port else 0,
    )


def _masquerade(row: Any, addresses: tuple[int, ...]) -> model.Masquerade:
    return model.Masquerade(
        key=str(row.uuid),
        router=_key_of(row.router),
        source=_prefix_or_any(row.source),
        addresses=addresses,
        vport=_optional_key(row.port),
        destination=_prefix_or_any(row.destination),
        filtering=model.Filtering(row.filtering[0] if row.filtering else _FILTERING),
    )


def _lease(row: Any) -> model.Lease:
    return model.Lease(
        str(row.uuid),
        _key_of(row.router),
        parse_ip(row.address),
        row.block,
        _key_of(row.host),
    )


def _mac_entry(row: Any) -> model.MacEntry:
    return model.MacEntry(
        str(row.uuid),
        _key_of(row.network),
        station_from_text(row.mac),
        _key_of(row.port),
    )


def _neighbor(row: Any) -> model.Neighbor:
    return model.Neighbor(
        str(row.uuid),
        _key_of(row.router),
        parse_ip(row.address),
        mac_from_text(row.mac),
    )


CONVERTERS: Final[dict[str, Callable[[Any], Union[model.Row, None]]]] = {
    "Host": _host,
    "Network": _network,
    "Router": _router,
    "Port": _vport,
    "Port_Status": _vport_status,
    "Port_Ready": _vport_ready,
    "Route": _route,
    "Chain": _chain,
    "Address_Group": _address_group,
    "Port_Group": _port_group,
    "Nat": _nat,
    "Nat_Lease": _lease,
    "Mac": _mac_entry,
    "Arp": _neighbor,
    "Subnet": service_rows.subnet,
    "Qos": l2_rows.qos,
    "Mirror": l2_rows.mirror,
    "Multicast_Member": l2_rows.multicast_member,
    "Load_Balancer": balancer_rows.balancer,
    "Vip": balancer_rows.vip,
    "Pool": balancer_rows.pool,
    "Pool_Member": balancer_rows.member,
    "Health_Monitor": balancer_rows.monitor,
    "Member_Status": balancer_rows.member_status,
}
