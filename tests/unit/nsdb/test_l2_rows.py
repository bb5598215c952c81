# SPDX-License-Identifier: Apache-2.0
"""Texts of learned stations, and what a layer 2 section of a file must not say."""

from __future__ import annotations

import pytest

from midoryu.errors import TopologyError
from midoryu.nsdb.schema import format_station, station_from_text
from midoryu.nsdb.topology_file import parse
from midoryu.packet.address import parse_mac

MAC = "02:00:00:00:00:01"


@pytest.mark.parametrize("text", [MAC, f"{MAC}/101", f"{MAC}/0"])
def test_a_learned_station_is_read_as_it_was_written(text: str) -> None:
    assert format_station(station_from_text(text)) == text


def test_a_tagged_station_is_another_one() -> None:
    assert station_from_text(MAC) == parse_mac(MAC)
    assert station_from_text(f"{MAC}/5") == 0x1005 << 48 | parse_mac(MAC)


@pytest.mark.parametrize("text", [f"{MAC}/4096", f"{MAC}/x", "5", f"{MAC} 5"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="MAC"):
        station_from_text(text)


PORTS = "networks: {n: {ports: {p: {}, q: {}, r: {router: x}, %s}}}\nrouters: {x: {}}"
BAD = {
    "a tag alone": (PORTS % "s: {vlan: 5}", "needs `parent`"),
    "a parent alone": (PORTS % "s: {parent: n/p}", "needs `vlan`"),
    "an unknown parent": (PORTS % "s: {parent: n/x, vlan: 5}", "no port 'n/x'"),
    "a tag twice": (
        PORTS % "s: {parent: n/p, vlan: 5}, t: {parent: n/p, vlan: 5}",
        "has this tag",
    ),
    "a parent that is a sub-port": (
        PORTS % "s: {parent: n/p, vlan: 5}, t: {parent: n/s, vlan: 6}",
        "no interface",
    ),
    "a linked parent": (PORTS % "s: {parent: n/r, vlan: 5}", "no interface"),
    "a sub-port with a host": (
        PORTS % "s: {parent: n/p, vlan: 5, host: a}",
        "where its parent is",
    ),
    "a tag out of range": (PORTS % "s: {parent: n/p, vlan: 4095}", "1 to 4094"),
    "an unknown policy": (PORTS % "s: {qos: gold}", "no QoS policy"),
    "a burst without a rate": ("qos: {q: {egress_burst_kb: 1}}", "needs `egress_kbps`"),
    "a mirror to itself": (
        PORTS % "s: {}" + "\nmirrors: {m: {ports: n/p, to: n/p}}",
        "to itself",
    ),
    "a mirror of a link": (
        PORTS % "s: {}" + "\nmirrors: {m: {ports: n/r, to: n/p}}",
        "only ports of interfaces",
    ),
    "a mirror to a link": (
        PORTS % "s: {}" + "\nmirrors: {m: {ports: n/p, to: n/r}}",
        "nobody can see",
    ),
    "a mirror to nobody": (
        PORTS % "s: {}" + "\nmirrors: {m: {ports: n/p}}",
        "needs `to`",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_told(case: str) -> None:
    text, reason = BAD[case]

    with pytest.raises(TopologyError, match=reason):
        parse(text, "f.yaml")
