# SPDX-License-Identifier: Apache-2.0
"""The lab file: from YAML to a checked `LabSpec`.

`lab` calls it before anything is made, so a mistake costs nothing. The format:

    name: demo                       # optional, default `lab`; also --name
    underlay:                        # optional
      subnet: 172.31.0.0/24          #   or an IPv6 prefix; host n gets address n
      mtu: 1600
    nsdb: {listen: unix}             # unix (default), or tcp: over the underlay
    agent:                           # optional: options for every agent
      flow_state: {dscp: 34}
    hosts: [node1, node2]            # or with details:
    #  node1: {ip: 172.31.0.7, agent: {agent: {tunnel_type: vxlan}}}
    vms:
      vm1: {vport: web/vm1}          # host, MAC, addresses, gateway: topology's
      vm2: {host: node1, ip: 10.0.0.2/24}       # without a topology
      # also: iface_id, mac, gateway, routes, mtu, setup, run
    outside:                         # machines and routers beyond the overlay
      upstream:
        forward: true
        interfaces: {gw1: 192.0.2.1/30, lan: [198.51.100.1/24, "2001:db8::1/64"]}
        routes: [{to: 203.0.113.0/24, via: 192.0.2.2}]
      server:
        interfaces: {eth0: {ip: 198.51.100.10/24, mac: "06:00:00:00:00:01"}}
        gateway: 198.51.100.1
        # shell lines, in the machine's own directory of the lab's state:
        setup: [echo hello > index.html]        # must succeed while the lab comes up
        run: [exec python3 -m http.server 80]   # in the background, until down
    links:
      - [upstream/gw1, provider/uplink1]        # to a vport of the topology
      - [upstream/lan, server/eth0]             # machine to machine
      # with details: {ends: [a/b, c/d], mtu: 9000}
    topology: {networks: ...}        # what `midoryu-ctl apply` takes
    # topology_file: path, beside this file
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Union

import yaml

from midoryu.errors import TopologyError
from midoryu.lab import scalar
from midoryu.lab.error import LabError
from midoryu.lab.overlay import Vport, vports
from midoryu.lab.scalar import refusal
from midoryu.lab.source import text_of, topology_of
from midoryu.lab.spec import (
    Host,
    HostEnd,
    Interface,
    LabSpec,
    Link,
    LinkEnd,
    Machine,
    MachineEnd,
    Nsdb,
    Route,
    Settings,
    Underlay,
)
from midoryu.nsdb.document import Entry
from midoryu.nsdb.document import load as load_yaml
from midoryu.nsdb.file_link import stable_mac
from midoryu.packet.address import format_mac

RESERVED_NAMES = ("nsdb", "underlay")
_TOP = ("name", "underlay", "nsdb", "agent", "hosts", "vms", "outside", "links")
_TOPOLOGY = ("topology", "topology_file")
_VM = ("vport", "host", "iface_id", "mac", "ip", "gateway", "routes", "mtu")
_COMMANDS = ("setup", "run")
_OUTSIDE = ("interfaces", "gateway", "routes", "forward")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_NSDB_OFFSET = -2


def load(path: Union[str, Path]) -> tuple[LabSpec, str]:
    """Read a lab file; return the lab and the name that the file gives it.

    Raises:
        LabError: the file cannot be read, or is wrong; names file, line, path, reason.
    """
    return read(text_of(Path(path)), str(path), Path(path).parent)


def from_mapping(data: dict[str, Any]) -> tuple[LabSpec, str]:
    """Make a lab from a mapping of the same form as a lab file.

    Raises:
        LabError: as `load`; the line is that of the mapping written as YAML.
    """
    return read(yaml.safe_dump(data, sort_keys=False), "(mapping)", Path())


def read(text: str, source: str, directory: Path) -> tuple[LabSpec, str]:
    """Read the text of a lab file that stands in `directory`.

    Raises:
        LabError: as `load`.
    """
    if all(line.lstrip()[:1] in ("", "#") for line in text.splitlines()):
        raise LabError(f"{source}:1: the file is empty")
    try:
        top_entry = load_yaml(text, source)
    except TopologyError as problem:
        raise LabError(str(problem)) from problem
    top = top_entry.fields(_TOP + _TOPOLOGY)
    topology_text, topology_source = topology_of(top, text, directory)
    underlay = _underlay(top.get("underlay"))
    reader = _Reader(top, top_entry, underlay, vports(topology_text, topology_source))
    spec = LabSpec(
        source=source,
        underlay=underlay,
        nsdb=_nsdb(top.get("nsdb"), underlay),
        hosts=reader.hosts,
        machines=reader.machines(),
        links=tuple(reader.links),
        topology_text=topology_text,
        topology_source=topology_source,
        vms=frozenset(top["vms"].entries()) if "vms" in top else frozenset(),
    )
    name = _lab_name(top.get("name"))
    if not top_entry.document.is_good:
        raise refusal(top_entry)
    return spec, name


class _Reader:
    """Reads hosts, VMs, outside machines and links; knows which names are taken."""

    def __init__(
        self,
        top: dict[str, Entry],
        top_entry: Entry,
        underlay: Underlay,
        vport_by_name: dict[str, Vport],
    ) -> None:
        self.top = top
        self.names: set[str] = set(RESERVED_NAMES)
        self.vport_by_name = vport_by_name
        self.links: list[Link] = []
        self.plugged: set[Union[MachineEnd, str]] = set()
        self.everywhere = {v.iface_id for v in vport_by_name.values() if v.everywhere}
        if "hosts" not in top:
            raise refusal(top_entry, "`hosts` is missing; a lab has at least one host")
        self.hosts = self._hosts(top["hosts"], underlay)

    def machines(self) -> tuple[Machine, ...]:
        """Read VMs and outside machines, and then the links between all."""
        vms = [self._vm(n, e) for n, e in self._named("vms")]
        outside = [self._outside(n, e) for n, e in self._named("outside")]
        interfaces = {(m.name, i.name) for m in outside for i in m.interfaces}
        for entry in self.top["links"].list_items() if "links" in self.top else ():
            self._link(entry, interfaces)
        for machine, interface in sorted(interfaces):
            if MachineEnd(machine, interface) not in self.plugged:
                entry = self.top["outside"].entries()[machine]
                raise refusal(entry, f"no link leads to interface `{interface}`")
        return (*vms, *outside)

    def _named(self, key: str) -> Iterable[tuple[str, Entry]]:
        for name, entry in self.top[key].entries().items() if key in self.top else ():
            self._take(name, entry)
            yield name, entry

    def _take(self, name: str, entry: Entry) -> None:
        if not _NAME.fullmatch(name):
            raise refusal(entry, "a name is a letter and up to 31 of a-z, 0-9, - or _")
        if name in RESERVED_NAMES:
            raise refusal(entry, f"the name `{name}` belongs to the lab itself")
        if name in self.names:
            raise refusal(entry, f"the name `{name}` is taken")
        self.names.add(name)

    def _hosts(self, entry: Entry, underlay: Underlay) -> tuple[Host, ...]:
        plain = {e.text(): e for e in entry.list_items()} if entry.is_list else None
        members = entry.entries() if plain is None else plain
        if not members:
            raise refusal(entry, "a lab has at least one host")
        if plain is not None and len(plain) != len(list(entry.list_items())):
            raise refusal(entry, "a host stands here twice")
        subnet = ipaddress.ip_network(underlay.subnet)
        hosts: list[Host] = []
        common = _settings(self.top.get("agent"))
        taken = {str(subnet[_NSDB_OFFSET])}
        for index, (name, host_entry) in enumerate(members.items(), start=1):
            self._take(name, host_entry)
            fields = host_entry.fields(["ip", "agent"]) if plain is None else {}
            ip = _host_ip(fields.get("ip"), host_entry, subnet, index)
            if ip in taken:
                raise refusal(host_entry, f"underlay address {ip} is taken")
            taken.add(ip)
            own = _settings(fields.get("agent"))
            hosts.append(Host(name, index, ip, common + own))
        return tuple(hosts)

    def _vm(self, name: str, entry: Entry) -> Machine:
        fields = entry.fields(_VM + _COMMANDS)
        vport = self._vm_vport(name, entry, fields)
        ips = scalar.prefixes(fields["ip"]) if "ip" in fields else vport.ips
        mac = scalar.mac(fields["mac"]) if "mac" in fields else vport.mac
        self._plug(entry, name, vport, scalar.mtu(fields.get("mtu")))
        gateways = scalar.gateways(fields.get("gateway"), vport.gateways)
        return Machine(
            name=name,
            interfaces=(Interface("eth0", ips, mac),),
            routes=tuple(Route("default", g) for g in gateways) + scalar.routes(fields),
            setup=scalar.lines(fields.get("setup")),
            run=scalar.lines(fields.get("run")),
        )

    def _vm_vport(self, name: str, entry: Entry, fields: dict[str, Entry]) -> Vport:
        """Find a VM's vport, or make one of what the VM itself says."""
        if "vport" in fields:
            vport = self._vport(fields["vport"])
            host = fields["host"].text() if "host" in fields else vport.host
        elif "host" in fields:
            vport = Vport("", "", name, format_mac(stable_mac(name)), (), ())
            host = fields["host"].text()
        else:
            raise refusal(entry, "needs `vport: DEVICE/PORT` or `host: NAME`")
        place = fields.get("host") or fields.get("vport") or entry
        iface_id = fields["iface_id"].text() if "iface_id" in fields else vport.iface_id
        self._check_host(host, place, vport.name)
        return Vport(vport.name, host, iface_id, vport.mac, vport.ips, vport.gateways)

    def _vport(self, entry: Entry) -> Vport:
        name = entry.text()
        if name not in self.vport_by_name:
            raise refusal(entry, f"the topology has no vport `{name}`")
        return self.vport_by_name[name]

    def _check_host(self, host: str, entry: Entry, vport: str) -> None:
        if host not in {h.name for h in self.hosts}:
            reason = (
                f"`{host}` is no host of this lab"
                if host
                else f"vport `{vport}` has no `host:` in the topology"
            )
            raise refusal(entry, reason)

    def _plug(self, entry: Entry, vm: str, vport: Vport, mtu_bytes: int) -> None:
        far = self._host_end(entry, vport, vm, uplink=False)
        self.links.append(Link(MachineEnd(vm, "eth0"), far, mtu_bytes))

    def _host_end(
        self, entry: Entry, vport: Vport, machine: str, *, uplink: bool
    ) -> HostEnd:
        plug = vport.iface_id
        if plug in self.everywhere:
            plug = f"{plug} at {vport.host}"
        if plug in self.plugged:
            raise refusal(entry, f"`{plug}` has something plugged in already")
        self.plugged.add(plug)
        # The number keeps shortened names apart on one host.
        device = f"p{len(self.links) + 1}-{machine}"[:15]
        return HostEnd(vport.host, device, vport.iface_id, uplink, vport.name)

    def _outside(self, name: str, entry: Entry) -> Machine:
        fields = entry.fields(_OUTSIDE + _COMMANDS)
        members = fields["interfaces"].entries() if "interfaces" in fields else {}
        gateways = scalar.gateways(fields.get("gateway"), ())
        return Machine(
            name=name,
            interfaces=tuple(scalar.interface(n, e) for n, e in members.items()),
            routes=tuple(Route("default", g) for g in gateways) + scalar.routes(fields),
            forward=fields["forward"].boolean() if "forward" in fields else False,
            setup=scalar.lines(fields.get("setup")),
            run=scalar.lines(fields.get("run")),
        )

    def _link(self, entry: Entry, interfaces: set[tuple[str, str]]) -> None:
        is_short = entry.is_list
        fields = {} if is_short else entry.fields(["ends", "mtu"])
        ends_entry = fields.get("ends", entry)
        ends = list(ends_entry.list_items())
        if len(ends) != 2:
            raise refusal(ends_entry, "a link has two ends, each `MACHINE/INTERFACE`")
        near, far = (self._end(end, interfaces) for end in ends)
        if isinstance(near, HostEnd):
            near, far = far, near
        if isinstance(near, HostEnd):
            raise refusal(ends_entry, "one end must be at an outside machine")
        if isinstance(far, HostEnd):
            device = f"p{len(self.links) + 1}-{near.machine}"[:15]
            far = replace(far, device=device)
        self.links.append(Link(near, far, scalar.mtu(fields.get("mtu"))))

    def _end(self, entry: Entry, interfaces: set[tuple[str, str]]) -> LinkEnd:
        machine, slash, interface = entry.text().partition("/")
        if not slash:
            raise refusal(entry, "expected `MACHINE/INTERFACE` or `DEVICE/PORT`")
        if (machine, interface) in interfaces:
            end = MachineEnd(machine, interface)
            if end in self.plugged:
                raise refusal(entry, "this interface has a link already")
            self.plugged.add(end)
            return end
        if entry.text() not in self.vport_by_name:
            raise refusal(entry, "neither an outside interface nor a vport")
        vport = self.vport_by_name[entry.text()]
        self._check_host(vport.host, entry, vport.name)
        return self._host_end(entry, vport, machine, uplink=True)


def _lab_name(entry: Union[Entry, None]) -> str:
    if entry is None:
        return "lab"
    name = entry.text()
    if not re.fullmatch(r"[a-z][a-z0-9]{0,9}", name):
        raise refusal(entry, "a lab's name is a-z and up to nine more of a-z, 0-9")
    return name


def _underlay(entry: Union[Entry, None]) -> Underlay:
    fields = entry.fields(["subnet", "mtu"]) if entry else {}
    subnet = "172.31.0.0/24"
    if "subnet" in fields:
        subnet = scalar.checked(fields["subnet"], ipaddress.ip_network)
    mtu = fields["mtu"].integer(*scalar.MTU_RANGE) if "mtu" in fields else 1600
    network = ipaddress.ip_network(subnet)
    if network.num_addresses < 4:
        raise refusal(fields["subnet"], "too small for two hosts")
    return Underlay(subnet, network.prefixlen, mtu)


def _nsdb(entry: Union[Entry, None], underlay: Underlay) -> Nsdb:
    fields = entry.fields(["listen"]) if entry else {}
    listen = fields["listen"].text() if "listen" in fields else "unix"
    if listen not in ("unix", "tcp"):
        raise refusal(fields["listen"], "expected unix or tcp")
    ip = ipaddress.ip_network(underlay.subnet)[_NSDB_OFFSET]
    return Nsdb(listen == "tcp", str(ip))


def _host_ip(
    entry: Union[Entry, None],
    host: Entry,
    subnet: Union[ipaddress.IPv4Network, ipaddress.IPv6Network],
    index: int,
) -> str:
    if entry is not None:
        ip = scalar.checked(entry, ipaddress.ip_address)
        if ipaddress.ip_address(ip) not in subnet:
            raise refusal(entry, f"{ip} is not within the underlay's {subnet}")
        return ip
    if index >= subnet.num_addresses - 2:
        raise refusal(host, f"the underlay's {subnet} has no address left")
    return str(subnet[index])


def _settings(entry: Union[Entry, None]) -> Settings:
    found = []
    for section, options in entry.entries().items() if entry else ():
        for option, value in options.entries().items():
            found.append((section, option, value.text()))
    return tuple(found)
