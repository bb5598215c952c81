# SPDX-License-Identifier: Apache-2.0
"""Tags: why an installed flow could become wrong.

A simulation collects tags, the engine indexes flows by them, and a change of the
topology or of state yields the tags whose flows must go. A state key (a tuple of six
integers) is a tag of its own; the tags here are shorter, so the two never meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Union

Tag = tuple[Union[int, str], ...]

_DEVICE: Final = 1
_VPORT: Final = 2
_MAC: Final = 3
_NEIGHBOR: Final = 4
_CHAIN: Final = 5
_GROUP: Final = 6
_FLOOD: Final = 7
_HOST: Final = 8
_INTEREST: Final = 9
_POOL: Final = 16
_MULTICAST: Final = 17

_NAMES: Final[dict[int, str]] = {
    _DEVICE: "device",
    _VPORT: "vport",
    _MAC: "mac",
    _NEIGHBOR: "neighbor",
    _CHAIN: "chain",
    _GROUP: "groups of",
    _FLOOD: "flood",
    _HOST: "host",
    _INTEREST: "interest",
    _POOL: "pool",
    _MULTICAST: "multicast",
}


def device_tag(device: int) -> Tag:
    """A network or router: its settings, routes or NAT."""
    return (_DEVICE, device)


def vport_tag(vport: int) -> Tag:
    """A vport: its settings, or where it is."""
    return (_VPORT, vport)


def mac_tag(network: int, mac: int) -> Tag:
    """Where a MAC address is on a network, known or not."""
    return (_MAC, network, mac)


def neighbor_tag(router: int, address: int) -> Tag:
    """The MAC address of a router's neighbour, known or not."""
    return (_NEIGHBOR, router, address)


def chain_tag(chain: str) -> Tag:
    """The rules of a chain."""
    return (_CHAIN, chain)


def member_tag(address: int) -> Tag:
    """The groups that an address is in."""
    return (_GROUP, address)


def flood_tag(network: int) -> Tag:
    """The set of vports of a network."""
    return (_FLOOD, network)


def host_tag(host: int) -> Tag:
    """The underlay address of a host."""
    return (_HOST, host)


def interest_tag(vport: int) -> Tag:
    """Who shares an ingress set with a vport."""
    return (_INTEREST, vport)


def pool_tag(pool: str) -> Tag:
    """Which members of a load-balancer pool are usable."""
    return (_POOL, pool)


def multicast_tag(network: int, group: int) -> Tag:
    """The members of a multicast group (0: the multicast routers) on a network."""
    return (_MULTICAST, network, group)


def is_state_tag(tag: Tag) -> bool:
    """Tell whether a tag is a state key."""
    return len(tag) == 6


def keys_of(tags: Iterable[Tag]) -> tuple[list[int], list[str], list[int]]:
    """List the devices, chains and vports that tags name."""
    devices: list[int] = []
    chains: list[str] = []
    vports: list[int] = []
    for kind, *rest in tags:
        if kind == _DEVICE:
            devices.append(int(rest[0]))
        elif kind == _CHAIN:
            chains.append(str(rest[0]))
        elif kind == _VPORT:
            vports.append(int(rest[0]))
    return devices, chains, vports


def describe(tag: Tag) -> str:
    """Show a tag for a log or trace line."""
    if len(tag) > 3:
        return "state/" + "/".join(str(part) for part in tag)
    first = tag[0]
    # A tag that the engine made for itself has its name in front.
    name = first if isinstance(first, str) else _NAMES.get(first, "tag")
    return "/".join((name, *map(str, tag[1:])))
