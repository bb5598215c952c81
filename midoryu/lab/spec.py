# SPDX-License-Identifier: Apache-2.0
"""What a lab consists of, as values; `file` makes them, `lab` builds from them.

Everything is checked and complete here: no name that points nowhere, no default left
open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from midoryu.compat import SLOTS

Settings = tuple[tuple[str, str, str], ...]
"""Configuration options as (section, option, value)."""


@dataclass(frozen=True, **SLOTS)
class Underlay:
    """The physical network between the hosts."""

    subnet: str
    """IPv4 or IPv6 prefix that the hosts' addresses come from."""
    prefix_length: int
    """Of `subnet`."""
    mtu_bytes: int
    """MTU of every underlay interface; tunnel headers must fit above 1500."""


@dataclass(frozen=True, **SLOTS)
class Nsdb:
    """The network state database."""

    tcp: bool
    """Whether agents reach it over the underlay (otherwise by a unix socket)."""
    ip: str
    """Underlay address, used with `tcp`."""


@dataclass(frozen=True, **SLOTS)
class Host:
    """One machine with Open vSwitch and an agent."""

    name: str
    index: int
    """Position in the file, from 1; interface names use it."""
    ip: str
    """Underlay address without prefix length."""
    settings: Settings
    """Agent options beyond those that the lab itself sets."""


@dataclass(frozen=True, **SLOTS)
class Route:
    """One kernel route of a VM or outside machine."""

    to: str
    """Prefix, or `default`."""
    via: str
    """Next hop."""


@dataclass(frozen=True, **SLOTS)
class Interface:
    """One network interface of a VM or outside machine."""

    name: str
    ips: tuple[str, ...]
    """Addresses with prefix length."""
    mac: str = ""
    """MAC, empty for a random one."""


@dataclass(frozen=True, **SLOTS)
class Machine:
    """A namespace that is not a host: a VM, an outside machine or a router."""

    name: str
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...] = ()
    forward: bool = False
    """Whether it routes between its interfaces."""
    setup: tuple[str, ...] = ()
    """Shell lines that must succeed, in order, while the lab comes up."""
    run: tuple[str, ...] = ()
    """Shell lines started in the background, before the agents are ready."""


@dataclass(frozen=True, **SLOTS)
class MachineEnd:
    """A link end at an interface of a machine."""

    machine: str
    interface: str


@dataclass(frozen=True, **SLOTS)
class HostEnd:
    """A link end plugged into `br-int` of a host."""

    host: str
    device: str
    """Interface name on the host."""
    iface_id: str
    """Value of `external_ids:iface-id`, by which the agent finds the vport."""
    uplink: bool
    """Whether it leads outside (and goes down with the host)."""
    vport: str = ""
    """Name in the topology, empty for an interface that is no vport."""


LinkEnd = Union[MachineEnd, HostEnd]


@dataclass(frozen=True, **SLOTS)
class Link:
    """A veth pair from a machine to another machine or to a host's bridge."""

    near: MachineEnd
    far: LinkEnd
    mtu_bytes: int = 1500
    """MTU of both ends."""


@dataclass(frozen=True, **SLOTS)
class LabSpec:
    """A whole lab."""

    source: str
    """Name of the lab file, for messages."""
    underlay: Underlay
    nsdb: Nsdb
    hosts: tuple[Host, ...]
    machines: tuple[Machine, ...]
    """VMs first, then outside machines, in file order."""
    links: tuple[Link, ...]
    topology_text: str
    """Topology file; its lines stand where they stand in `topology_source`."""
    topology_source: str
    """File that the topology was written in, for messages."""
    vms: frozenset[str] = field(default_factory=frozenset)
    """Names of the machines that are VMs."""

    def host(self, name: str) -> Host:
        """Return the host called `name`.

        Raises:
            KeyError: there is none.
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def plugs(self, host: str) -> tuple[HostEnd, ...]:
        """Return what is plugged into `br-int` of a host."""
        return tuple(
            link.far
            for link in self.links
            if isinstance(link.far, HostEnd) and link.far.host == host
        )
