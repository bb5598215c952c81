# SPDX-License-Identifier: Apache-2.0
"""The schema file as a value: its path, its version, and how to speak of its rows.

`midoryu.ovsschema` beside this file is the one source; `rows`, `client` and `session`
read it through here.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import ovs.db.idl

from midoryu.packet.address import (
    MAC_BROADCAST,
    Prefix,
    format_ip,
    format_mac,
    parse_ip,
    parse_mac,
    parse_prefix,
)
from midoryu.packet.codec import VLAN_PRESENT

DATABASE: Final = "Midoryu"
SCHEMA_FILE: Final = Path(__file__).with_name("midoryu.ovsschema")
SERVER_TABLES: Final = ("Connection", "RBAC_Role", "RBAC_Permission")
"""What the server itself reads: where it listens for whom (`cmd.nsdb_access`)."""
# GRE keys are 32 bits; 0xFFFFFF marks flow state (`openflow.pipeline`).
MAX_KEY: Final = 0xFF_FFFE
# RFC 6335, section 6: leased ports stay above the system ports; 64 ports a block.
BLOCKS: Final = range(16, 1024)


def schema_helper(without: Collection[str] = ()) -> Any:
    """Return an `ovs.db.idl.SchemaHelper` with all tables but the server's own.

    Columns of the names in `without` are left out.
    """
    with SCHEMA_FILE.open(encoding="utf-8") as file:
        schema = json.load(file)
    for name in SERVER_TABLES:
        del schema["tables"][name]
    del schema["tables"]["Cloud"]["columns"]["connections"]
    helper = ovs.db.idl.SchemaHelper(schema_json=schema)
    for name, table in schema["tables"].items():
        columns = [column for column in table["columns"] if column not in without]
        helper.register_columns(name, columns)
    return helper


def mac_from_text(text: str) -> int:
    """Read a MAC address of a row.

    Raises:
        ValueError: it is none, or is a group address.
    """
    mac = parse_mac(text)
    if not 0 < mac <= MAC_BROADCAST or mac >> 40 & 1:
        raise ValueError(f"{text!r} is not the MAC address of one station")
    return mac


def station_from_text(text: str) -> int:
    """Read a learned `MAC`, or `MAC/VLAN` of a tagged one (`model.MacEntry.mac`).

    Raises:
        ValueError: it is none.
    """
    mac, _, vlan = text.partition("/")
    if vlan and not (vlan.isdecimal() and int(vlan) < 4096):
        raise ValueError(f"{text!r} is not MAC or MAC/VLAN")
    tag = VLAN_PRESENT | int(vlan) if vlan else 0
    return tag << 48 | mac_from_text(mac)


def format_station(mac: int) -> str:
    """Write a learned address as rows hold it."""
    text, tag = format_mac(mac & MAC_BROADCAST), mac >> 48
    return f"{text}/{tag & 0xFFF}" if tag else text


def interface_from_text(text: str) -> Prefix:
    """Read `address/length` and keep the address's host bits.

    Raises:
        ValueError: it is none.
    """
    address, slash, _ = text.partition("/")
    length = parse_prefix(text, strict=False).length if slash else 128
    return Prefix(parse_ip(address), length)


def allowed_from_text(text: str) -> tuple[int, Prefix]:
    """Read an allowed source: `MAC`, `PREFIX` or `MAC PREFIX`; MAC 0 is the port's own.

    Raises:
        ValueError: it is none of these.
    """
    parts = text.split(" ")
    if len(parts) > 2:
        raise ValueError(f"{text!r} is not MAC, PREFIX or MAC PREFIX")
    if len(parts) == 2:
        return mac_from_text(parts[0]), parse_prefix(parts[1])
    if len(text) == 17 and text.count(":") == 5:
        return mac_from_text(text), Prefix(0, 0)
    return 0, parse_prefix(text)


def ports_from_text(text: str) -> tuple[int, int]:
    """Read `port` or `first-last`.

    Raises:
        ValueError: no port range of 0..65535 in order.
    """
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and (last.isdecimal() if dash else True)):
        raise ValueError(f"{text!r} is not a port or a range first-last")
    ports = int(first), int(last if dash else first)
    if not ports[0] <= ports[1] <= 0xFFFF:
        raise ValueError(f"{text!r} is not a range of ports 0-65535 in order")
    return ports


def format_ports(ports: tuple[int, int]) -> str:
    """Write a port range as rows hold it."""
    return f"{ports[0]}" if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def format_interface(address: Prefix) -> str:
    """Write an address with its subnet's length as rows hold it."""
    text = str(address)
    return format_ip(address.value) if address.length == 128 else text
