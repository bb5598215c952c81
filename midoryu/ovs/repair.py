# SPDX-License-Identifier: Apache-2.0
"""Compares the bridge with the wanted settings and writes only what differs.

Works on the rows of an IDL; `client` owns that. Interfaces with other names than ours
are never touched, but for the mark that says that their flows are in.

Source: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from midoryu.openflow.pipeline import FLOW_STATE_KEY
from midoryu.ovs.settings import STATE_PORT, TUNNEL_PORT, OvsSettings

INSTALLED_MARK: Final = "midoryu-installed"
IFACE_ID: Final = "iface-id"
_MAX_IDLE: Final = "max-idle"
# How soon OVS finds that the agent hangs, and how long it waits between attempts.
_OUT_OF_BAND: Final = ("disable-in-band", "true")
_INACTIVITY_PROBE_MS: Final = 10_000
_MAX_BACKOFF_MS: Final = 1_000


def find_bridge(idl: Any, name: str) -> Any | None:
    """Return the row of a bridge that some Open_vSwitch row really has."""
    for root in idl.tables["Open_vSwitch"].rows.values():
        for bridge in root.bridges:
            if bridge.name == name:
                return bridge
    return None


def interfaces_of(bridge: Any) -> list[Any]:
    """List the interface rows of a bridge, by name and row id (so: stable)."""
    rows = [row for port in bridge.ports for row in port.interfaces]
    return sorted(rows, key=lambda row: (row.name, str(row.uuid)))


def errors_of(interfaces: list[Any]) -> list[str]:
    """Say which of our tunnel ports OVS could not make."""
    return [
        f"OVS could not make {row.name}: {row.error[0]}"
        for row in interfaces
        if row.name in (TUNNEL_PORT, STATE_PORT) and row.error
    ]


def ofport_by_iface_id(interfaces: list[Any]) -> tuple[dict[str, int], list[str]]:
    """Map every iface-id to its ofport; of several with one id, the first wins.

    An interface whose link is down does not count.

    Returns:
        (iface-id -> ofport, a line for each duplicate).
    """
    found: dict[str, int] = {}
    names: dict[str, str] = {}
    duplicates: list[str] = []
    for row in interfaces:
        iface_id = row.external_ids.get(IFACE_ID, "")
        if not iface_id or not row.ofport or row.ofport[0] <= 0:
            continue
        if iface_id in names:
            duplicates.append(
                f"interface {row.name} has the iface-id {iface_id!r} that "
                f"{names[iface_id]} has already; it is left alone"
            )
            continue
        names[iface_id] = row.name
        # Without a carrier nothing comes or goes: another uplink may have one.
        if row.link_state != ["down"]:
            found[iface_id] = row.ofport[0]
    return found, duplicates


def repair_bridge(idl: Any, transaction: Any, settings: OvsSettings) -> None:
    """Add to a transaction whatever makes the bridge as wanted."""
    roots = list(idl.tables["Open_vSwitch"].rows.values())
    if not roots:
        return
    _bound_cache(roots[0], settings.cache_idle_ms)
    bridge = find_bridge(idl, settings.bridge)
    if bridge is None:
        # All at once: what a row just inserted holds cannot be added to.
        names = {settings.bridge: ("internal", {}), **_tunnel_ports(settings)}
        bridge = transaction.insert(idl.tables["Bridge"])
        bridge.name = settings.bridge
        bridge.other_config = dict([_OUT_OF_BAND])
        bridge.ports = [
            _new_port(idl, transaction, name, kind, options)
            for name, (kind, options) in names.items()
        ]
        roots[0].addvalue("bridges", bridge)
    else:
        _put_key(bridge, "other_config", *_OUT_OF_BAND)
        for name, (kind, options) in _tunnel_ports(settings).items():
            _repair_port(idl, transaction, bridge, (name, kind, options))
    _put(bridge, "datapath_type", settings.datapath_type)
    _put(bridge, "fail_mode", ["secure"])
    _put(bridge, "protocols", ["OpenFlow13"])
    _repair_controller(idl, transaction, bridge, settings)


def _bound_cache(root: Any, idle_ms: int) -> None:
    """Let OVS forget soon what it cached of connections that have ended.

    Every flow that comes or goes has OVS look through its whole cache; what an operator
    set stays.
    """
    if idle_ms and _MAX_IDLE not in root.other_config:
        root.setkey("other_config", _MAX_IDLE, str(idle_ms))


def mark_installed(idl: Any, bridge_name: str, iface_ids: Collection[str]) -> set[str]:
    """Mark interfaces whose flows are in.

    Returns:
        The ids that were found.
    """
    bridge = find_bridge(idl, bridge_name)
    if bridge is None or not iface_ids:
        return set()
    found = set()
    for row in interfaces_of(bridge):
        iface_id = row.external_ids.get(IFACE_ID, "")
        if iface_id in iface_ids:
            found.add(iface_id)
            _put_key(row, "external_ids", INSTALLED_MARK, "true")
    return found


def _tunnel_ports(settings: OvsSettings) -> dict[str, tuple[str, dict[str, str]]]:
    common = {"remote_ip": "flow", "local_ip": settings.local_ip}
    # The upper six bits of the octet are the DSCP (RFC 2474, section 3).
    tos = str(settings.state_dscp << 2)
    state_key = str(int(FLOW_STATE_KEY))
    return {
        TUNNEL_PORT: (settings.tunnel_type, {**common, "key": "flow"}),
        STATE_PORT: (settings.tunnel_type, {**common, "key": state_key, "tos": tos}),
    }


def _new_port(
    idl: Any, transaction: Any, name: str, kind: str, options: dict[str, str]
) -> Any:
    interface = transaction.insert(idl.tables["Interface"])
    interface.name = name
    interface.type = kind
    interface.options = options
    port = transaction.insert(idl.tables["Port"])
    port.name = name
    port.interfaces = [interface]
    return port


def _repair_controller(
    idl: Any, transaction: Any, bridge: Any, settings: OvsSettings
) -> None:
    target = f"tcp:127.0.0.1:{settings.openflow_port}"
    rows = list(getattr(bridge, "controller", ()))  # a new row has none
    if len(rows) == 1 and rows[0].target == target:
        controller = rows[0]
    else:
        controller = transaction.insert(idl.tables["Controller"])
        controller.target = target
        bridge.controller = [controller]
    _put(controller, "connection_mode", ["out-of-band"])
    _put(controller, "inactivity_probe", [_INACTIVITY_PROBE_MS])
    _put(controller, "max_backoff", [_MAX_BACKOFF_MS])


def _repair_port(
    idl: Any, transaction: Any, bridge: Any, wanted: tuple[str, str, dict[str, str]]
) -> None:
    name, kind, options = wanted
    for interface in interfaces_of(bridge):
        if interface.name == name:
            _put(interface, "type", kind)
            _put(interface, "options", options)
            return
    bridge.addvalue("ports", _new_port(idl, transaction, name, kind, options))


def _put(row: Any, column: str, value: Any) -> None:
    try:
        same = getattr(row, column) == value
    except AttributeError:  # a row just inserted has no values yet
        same = False
    if not same:
        setattr(row, column, value)


def _put_key(row: Any, column: str, key: str, value: str) -> None:
    if getattr(row, column, {}).get(key) != value:
        row.setkey(column, key, value)
