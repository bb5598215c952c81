# SPDX-License-Identifier: Apache-2.0
"""Layer 2 services as words of a topology file: the opposite of `file_l2`.

`export` calls it for the words that it has here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from midoryu.nsdb import file_l2
from midoryu.nsdb.item import Item

Words = dict[str, Any]
"""A mapping of the file."""


def options(item: Item) -> Words:
    """Write the options of a network, router or port."""
    known = (*file_l2.NETWORK_FIELDS, *file_l2.PORT_FIELDS)
    return {
        word: item.columns[word]
        for word in dict.fromkeys(known)
        if item.columns.get(word)
    }


def qos(item: Item) -> Words:
    """Write a policy."""
    columns = item.columns
    words = {
        word: columns[word]
        for word in file_l2.QOS_FIELDS
        if columns.get(word) is not None
    }
    bursts = {columns[f"{way}_burst_kb"] for way in ("ingress", "egress")}
    if len(bursts) == 1 and None not in bursts:
        for way in ("ingress", "egress"):
            del words[f"{way}_burst_kb"]
        words["burst_kb"] = bursts.pop()
    return words


def mirrors(items: Iterable[Item], ports: Iterable[Item]) -> Words:
    """Write the mirrors whose ports a topology file may name."""
    own = {port.name for port in ports}
    return {
        item.name: _mirror(item)
        for item in items
        if own.issuperset((*_ports(item), str(item.columns["port"])))
    }


def _mirror(item: Item) -> Words:
    words: Words = {"ports": list(_ports(item)), "to": item.columns["port"]}
    if item.columns["direction"] != "both":
        words["direction"] = item.columns["direction"]
    return words


def _ports(item: Item) -> tuple[str, ...]:
    ports = item.columns["ports"]
    return tuple(map(str, ports)) if isinstance(ports, tuple) else ()
