# SPDX-License-Identifier: Apache-2.0
"""Subnets and ports' services as words of a topology file: opposite of `file_service`.

`export` calls it.
"""

from __future__ import annotations

from typing import Any

from midoryu.nsdb.file_service import RA_FIELDS
from midoryu.nsdb.item import Item

Words = dict[str, Any]
"""A mapping of the file."""

_PLAIN = ("gateway", "domain", "mtu", "resolver")
_DHCP = (("lease", "lease_s"), ("server", "server"), ("boot_file", "boot_file"))


def subnet(item: Item) -> Words:
    """Write a subnet."""
    columns = item.columns
    words: Words = {word: columns[word] for word in _PLAIN if columns[word]}
    for word in ("dns", "search", "forward"):
        if columns[word]:
            words[word] = str(columns[word]).split()
    if columns["ntp"]:
        words["ntp"] = _list(columns["ntp"])
    if columns["routes"]:
        pairs = (text.split(" via ") for text in _list(columns["routes"]))
        words["routes"] = [{"to": to, "via": via} for to, via in pairs]
    if columns["dhcp"]:
        words["dhcp"] = _dhcp(item) or True
    if columns["ra_mode"]:
        words["ra"] = _ra(item)
    return words


def port(item: Item) -> Words:
    """Write what a port says to services."""
    columns = item.columns
    words: Words = {}
    if columns["hostname"]:
        words["hostname"] = columns["hostname"]
    for word in ("dhcp_options", "dhcp6_options"):
        if columns[word]:
            words[word] = _options(columns[word])
    if columns["metadata"]:
        words["metadata"] = True
    return words


def _dhcp(item: Item) -> Words:
    columns = item.columns
    words: Words = {word: columns[col] for word, col in _DHCP if columns[col]}
    if columns["boot_server"]:
        words["boot_server"] = columns["boot_server"]
    if columns["options"]:
        words["options"] = _options(columns["options"])
    return words


def _ra(item: Item) -> Any:
    columns = item.columns
    words: Words = {
        word: columns[column]
        for word, (column, _) in RA_FIELDS.items()
        if columns[column] is not None
    }
    if columns["ra_preference"]:
        words["preference"] = columns["ra_preference"]
    mode = columns["ra_mode"]
    return {"mode": mode, **words} if words else mode


def _options(texts: object) -> Words:
    pairs = (text.partition("=") for text in _list(texts))
    return {code: value for code, _, value in pairs}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, tuple) else []
