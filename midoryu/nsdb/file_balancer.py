# SPDX-License-Identifier: Apache-2.0
"""The section `balancers` of a topology file, and writing it.

    balancers:
      web:
        router: tenant                      # or network: web
        vips: ["203.0.113.80:80/tcp"]
        members: ["10.0.1.11:8080", {address: "10.0.1.12:8080", weight: 2}]
        affinity: 300
        monitor: {http: /health, interval: 2, timeout: 1, rise: 2, fall: 3}
        on_remove: keep
        on_down: keep
        no_member: reject

`topology_file` calls `read_balancers` when devices are known, `export` calls `words`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Union

from midoryu.nsdb.document import Entry
from midoryu.nsdb.draft import Draft, check_name, reference
from midoryu.nsdb.file_chain import PROTOCOLS
from midoryu.nsdb.file_router import Endpoint, parse_endpoint
from midoryu.nsdb.item import Item, Value, make_item
from midoryu.nsdb.schema import ports_from_text
from midoryu.packet import protocol
from midoryu.packet.address import format_ip, is_v4

FIELDS: Final = (
    "router",
    "network",
    "vips",
    "members",
    "affinity",
    "monitor",
    "on_remove",
    "on_down",
    "no_member",
    "up",
)
MEMBER_FIELDS: Final = ("address", "weight", "up")
KINDS: Final = ("tcp", "http", "icmp", "udp")
MONITOR_FIELDS: Final = (
    "type",
    "http",
    "codes",
    "port",
    "interval",
    "timeout",
    "rise",
    "fall",
)
_CHOICES: Final = {
    "on_remove": ("keep", "end"),
    "on_down": ("keep", "end"),
    "no_member": ("reject", "drop"),
}
_WITH_PORTS: Final = (protocol.TCP, protocol.UDP, protocol.SCTP)
_MAX_AFFINITY_S: Final = 604_800
_MAX_WEIGHT: Final = 255
_MAX_SECONDS: Final = 3600
_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}


def read_balancers(draft: Draft, section: Entry) -> None:
    """Read every load balancer of a file."""
    for name, entry in section.entries().items():
        check_name(entry, name)
        _read(draft, name, entry)


def _read(draft: Draft, name: str, entry: Entry) -> None:
    fields = entry.fields(FIELDS)
    columns: dict[str, Value] = {"name": name}
    if ("router" in fields) == ("network" in fields):
        entry.report("needs `router` or `network`, and not both")
    for word, known in (("router", draft.routers), ("network", draft.networks)):
        if word in fields:
            columns[word] = reference(fields[word], known, word)
    if "up" in fields:
        columns["up"] = fields["up"].boolean(default=True)
    draft.add("Load_Balancer", columns, entry)
    _read_pool(draft, name, entry, fields)
    if "vips" not in fields:
        entry.report("needs `vips`")
    vips = fields["vips"].items() if "vips" in fields else ()
    families = {_read_vip(draft, name, vip) for vip in vips}
    for member in fields["members"].items() if "members" in fields else ():
        _read_member(draft, name, member, families)
    if "monitor" in fields:
        _read_monitor(draft, name, fields["monitor"])


def _read_pool(
    draft: Draft, name: str, entry: Entry, fields: Mapping[str, Entry]
) -> None:
    pool: dict[str, Value] = {"name": name}
    if "affinity" in fields:
        pool["affinity"] = fields["affinity"].integer(0, _MAX_AFFINITY_S)
    for word, allowed in _CHOICES.items():
        if word in fields:
            pool[word] = fields[word].choice(allowed)
    draft.add("Pool", pool, entry)


def _read_vip(draft: Draft, name: str, entry: Entry) -> Union[bool, None]:
    """Read a VIP; return whether it is IPv4, None where it is none."""
    endpoint = entry.parsed(parse_endpoint)
    if endpoint is None:
        return None
    number = _one_port(entry, endpoint)
    if number and endpoint.protocol not in _WITH_PORTS:
        entry.report("a port needs a protocol, as in 192.0.2.1:80/tcp")
    columns: dict[str, Value] = {
        "balancer": name,
        "pool": name,
        "address": format_ip(endpoint.address),
        "ip_proto": endpoint.protocol,
        "l4_port": number,
    }
    draft.add("Vip", columns, entry)
    return is_v4(endpoint.address)


def _read_member(
    draft: Draft, name: str, entry: Entry, families: set[Union[bool, None]]
) -> None:
    columns: dict[str, Value] = {"pool": name}
    place = entry
    if entry.is_mapping:
        fields = entry.fields(MEMBER_FIELDS)
        if "address" not in fields:
            entry.report("needs `address`")
            return
        place = fields["address"]
        if "weight" in fields:
            columns["weight"] = fields["weight"].integer(0, _MAX_WEIGHT)
        if "up" in fields:
            columns["up"] = fields["up"].boolean(default=True)
    endpoint = place.parsed(parse_endpoint)
    if endpoint is None:
        return
    if endpoint.protocol is not None:
        place.report("the protocol belongs to the VIP, not to a member")
    if is_v4(endpoint.address) not in families and None not in families:
        place.report("no VIP is of this address family")
    columns["address"] = format_ip(endpoint.address)
    columns["l4_port"] = _one_port(place, endpoint)
    draft.add("Pool_Member", columns, entry)


def _one_port(entry: Entry, endpoint: Endpoint) -> Union[int, None]:
    if endpoint.ports is None:
        return None
    if endpoint.ports[0] != endpoint.ports[1]:
        entry.report("names a range of ports; one is wanted, or none for all")
    return endpoint.ports[0]


def _read_monitor(draft: Draft, name: str, entry: Entry) -> None:
    columns: dict[str, Value] = {"pool": name}
    if not entry.is_mapping:
        columns["type"] = entry.choice(KINDS)
        draft.add("Health_Monitor", columns, entry)
        return
    fields = entry.fields(MONITOR_FIELDS)
    if "http" in fields:
        columns["type"], columns["path"] = "http", _path(fields["http"])
    else:
        columns["type"] = fields["type"].choice(KINDS) if "type" in fields else "tcp"
    if "codes" in fields:
        columns["codes"] = _codes(fields["codes"])
    if "port" in fields:
        columns["l4_port"] = fields["port"].integer(1, 0xFFFF)
    for word in ("rise", "fall"):
        if word in fields:
            columns[word] = fields[word].integer(1, 100)
    for word in ("interval", "timeout"):
        if word in fields:
            columns[word] = fields[word].parsed(_milliseconds)
    _check_times(fields, columns)
    draft.add("Health_Monitor", columns, entry)


def _check_times(fields: Mapping[str, Entry], columns: dict[str, Value]) -> None:
    """Report an answer that may come after the next question; fit the default in."""
    item = make_item("Health_Monitor", columns)
    interval, timeout = item.columns["interval"], item.columns["timeout"]
    if not isinstance(interval, int) or not isinstance(timeout, int):
        return
    if timeout <= interval:
        return
    if "timeout" in fields:
        fields["timeout"].report(
            f"{timeout / 1000:g} s is longer than the interval, {interval / 1000:g} s"
        )
    else:
        columns["timeout"] = interval


def _path(entry: Entry) -> str:
    text = entry.text()
    if not text.startswith("/") or not text.isascii() or " " in text:
        entry.report("is no path as in /health")
    return text


def _codes(entry: Entry) -> tuple[str, ...]:
    found = []
    for item in entry.items():
        codes = item.parsed(ports_from_text)
        if codes is not None and not 100 <= codes[0] <= codes[1] <= 599:
            item.report("HTTP status codes are 100-599")
        found.append(item.text())
    return tuple(sorted(found))


def _milliseconds(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number of seconds") from None
    if not 0.1 <= seconds <= _MAX_SECONDS:
        raise ValueError(f"{text} is not 0.1 to {_MAX_SECONDS} seconds")
    return round(seconds * 1000)


# Writing.


def words(items: Mapping[str, Iterable[Item]]) -> dict[str, Any]:
    """Write balancers down.

    Args:
        items: by table; balancers whose VIPs lead to pools of other names are of
            others, and left out.
    """
    found: dict[str, Any] = {}
    for item in items.get("Load_Balancer", ()):
        pools = [p for p in items.get("Pool", ()) if p.name == item.name]
        if pools:
            found[item.name] = _balancer(item, pools[0], items)
    return found


def _balancer(
    item: Item, pool: Item, items: Mapping[str, Iterable[Item]]
) -> dict[str, Any]:
    name = item.name
    kind = "router" if item.columns["router"] else "network"
    made: dict[str, Any] = {kind: item.columns[kind]}
    vips = [v for v in items.get("Vip", ()) if v.columns["balancer"] == name]
    made["vips"] = [_vip(vip) for vip in vips]
    members = [m for m in items.get("Pool_Member", ()) if m.columns["pool"] == name]
    if members:
        made["members"] = [_member(member) for member in members]
    if pool.columns["affinity"]:
        made["affinity"] = pool.columns["affinity"]
    for word, allowed in _CHOICES.items():
        if pool.columns[word] != allowed[0]:
            made[word] = pool.columns[word]
    for monitor in items.get("Health_Monitor", ()):
        if monitor.columns["pool"] == name:
            made["monitor"] = _monitor(monitor)
    if not item.columns["up"]:
        made["up"] = False
    return made


def endpoint(columns: Mapping[str, Any]) -> str:
    """Write the address and port of a VIP or member."""
    address, port = str(columns["address"]), columns["l4_port"]
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _vip(item: Item) -> str:
    proto = item.columns["ip_proto"]
    text = endpoint(item.columns)
    if not isinstance(proto, int):
        return text
    return f"{text}/{_NAMES.get(proto, str(proto))}"


def _member(item: Item) -> Union[str, dict[str, Any]]:
    text, columns = endpoint(item.columns), item.columns
    made: dict[str, Any] = {"address": text}
    if columns["weight"] != 1:
        made["weight"] = columns["weight"]
    if not columns["up"]:
        made["up"] = False
    return made if len(made) > 1 else text


def _monitor(item: Item) -> dict[str, Any]:
    columns = item.columns
    made: dict[str, Any] = {}
    if columns["type"] == "http":
        made["http"] = columns["path"]
        if columns["codes"] != ("200-299",):
            made["codes"] = list(columns["codes"])  # type: ignore[arg-type]
    else:
        made["type"] = columns["type"]
    if columns["l4_port"] is not None:
        made["port"] = columns["l4_port"]
    for word in ("interval", "timeout"):
        value = int(columns[word]) / 1000  # type: ignore[arg-type]
        made[word] = int(value) if value.is_integer() else value
    for word in ("rise", "fall"):
        made[word] = columns[word]
    return made
