# SPDX-License-Identifier: Apache-2.0
"""What a topology file says, half read: shared by the readers of its sections.

`topology_file` fills a draft, `file_link` joins its ports, `file_check` looks for
conflicts; then its items are complete.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Union

from midoryu.compat import SLOTS
from midoryu.nsdb.document import Entry
from midoryu.nsdb.item import Item, ItemId, Value, make_item
from midoryu.packet.address import Prefix

_NAME: Final = re.compile(r"[^\s/,\x00-\x1f]{1,120}\Z")


@dataclass(**SLOTS)
class PortDraft:
    """A port of a network or router."""

    device: str
    name: str
    is_router: bool
    entry: Entry
    """Where it is written; for a port that a link makes, the other end."""
    columns: dict[str, Value] = field(default_factory=dict)
    addresses: tuple[Prefix, ...] = ()
    link_device: str = ""
    """Device at the other end of its link, "" for an exterior port."""
    link_is_router: bool = False
    link_port: str = ""
    """Port at the other end, "" for one whose name is to be found."""
    peer: Union[PortDraft, None] = None

    @property
    def full_name(self) -> str:
        """`DEVICE/PORT`."""
        return f"{self.device}/{self.name}"


class Draft:
    """All that was read so far."""

    def __init__(self, top: Mapping[str, Entry]) -> None:
        self.networks = _names(top, "networks")
        self.routers = _names(top, "routers")
        self.chains = _names(top, "chains")
        self.groups = _names(top, "groups")
        self.port_groups = _names(top, "port_groups")
        self.policies = _names(top, "qos")
        self.hosts: set[str] = set()
        self.ports: dict[tuple[str, str], PortDraft] = {}
        """By device and name."""
        self.items: dict[ItemId, Item] = {}
        self.places: dict[ItemId, Entry] = {}

    def add(self, table: str, columns: Mapping[str, Value], entry: Entry) -> None:
        """Add an item; a second one of the same name is a problem."""
        item = make_item(table, columns)
        if item.id in self.items:
            entry.report(f"is there twice: {item.name}")
            return
        self.items[item.id] = item
        self.places[item.id] = entry

    def device_ports(self, device: str) -> list[PortDraft]:
        """List the ports of a device."""
        return [port for port in self.ports.values() if port.device == device]


def reference(entry: Entry, known: Iterable[str], what: str) -> Union[str, None]:
    """Read the name of something that the file must have."""
    name = entry.text()
    names = list(known)
    if name in names:
        return name
    if name:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        entry.report(f"there is no {what} {name!r}{hint}")
    return None


def check_name(entry: Entry, name: str) -> None:
    """Report a name that could not be told from `DEVICE/PORT` or a list of names."""
    if not _NAME.match(name):
        entry.report(
            f"{name!r} cannot be a name: 1 to 120 characters, no space, comma or '/'"
        )


def _names(top: Mapping[str, Entry], section: str) -> dict[str, Entry]:
    entries = top[section].entries() if section in top else {}
    for name, entry in entries.items():
        check_name(entry, name)
    return entries
