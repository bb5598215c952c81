# SPDX-License-Identifier: Apache-2.0
"""Namespaces, links, addresses and loss: the lab's cables and kernels.

`lab` calls it; what runs Open vSwitch on top of it is `host`'s.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from midoryu.lab.error import LabError
from midoryu.lab.process import NETNS_DIR
from midoryu.lab.shell import inside, run, script
from midoryu.lab.spec import Host, HostEnd, Interface, LabSpec, Link, Machine, Route
from midoryu.lab.store import Store

UNDERLAY_DEVICE = "underlay"
NSDB_PORT = "nsdb"
# Source: nft(8), hook priorities of the bridge family.
_LOSS_TABLE = "bridge lab"


def namespaces(spec: LabSpec, store: Store) -> tuple[str, ...]:
    """Return the names of all namespaces of a lab."""
    nodes = ["underlay", "nsdb", *(h.name for h in spec.hosts)]
    nodes += [m.name for m in spec.machines]
    return tuple(store.namespace(node) for node in nodes)


def refuse_taken_namespaces(names: Iterable[str]) -> None:
    """Make sure that no namespace exists yet; call it before they are written down.

    Raises:
        LabError: one exists already.
    """
    taken = [name for name in names if (NETNS_DIR / name).exists()]
    if taken:
        raise LabError(
            f"network namespace `{taken[0]}` exists already and is not this lab's; "
            "choose another --name"
        )


def make_namespaces(names: Iterable[str]) -> None:
    """Make network namespaces.

    Raises:
        LabError: one may not be made.
    """
    _batch(f"netns add {name}" for name in names)


def remove_namespaces(names: Iterable[str]) -> None:
    """Remove network namespaces and all interfaces in them; missing ones are fine.

    Raises:
        LabError: one cannot be removed.
    """
    for name in names:
        path = NETNS_DIR / name
        if path.exists():
            run(["ip", "netns", "del", name], check=False)
        # A maker killed between making the file and mounting on it leaves the file.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if path.exists():
            raise LabError(f"network namespace `{name}` cannot be removed")


def set_up_kernels(spec: LabSpec, store: Store) -> None:
    """Give every namespace its kernel settings; new interfaces then inherit them."""
    for name in ["underlay", *(host.name for host in spec.hosts)]:
        # Else a host's own kernel would speak IPv6 into every VM's port.
        _set_up_kernel(store, name, forward=False, ipv6=False)
    _set_up_kernel(store, "nsdb", forward=False, ipv6=":" in spec.nsdb.ip)
    for machine in spec.machines:
        ips = [ip for interface in machine.interfaces for ip in interface.ips]
        _set_up_kernel(
            store, machine.name, forward=machine.forward, ipv6=":" in "".join(ips)
        )


def lay(spec: LabSpec, store: Store) -> None:
    """Make every veth pair, each end at once in its namespace."""
    _batch(_pairs(spec, store))


def set_up_underlay(spec: LabSpec, store: Store) -> None:
    """Make the bridge that joins the hosts, and bring its ports up."""
    ports = [port_name(host) for host in spec.hosts]
    ports += [NSDB_PORT] if spec.nsdb.tcp else []
    mtu = str(spec.underlay.mtu_bytes)
    commands = [
        ["ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"],
        ["ip", "link", "set", "dev", "br0", "mtu", mtu, "up"],
    ]
    for port in ports:
        commands.append(
            ["ip", "link", "set", "dev", port, "mtu", mtu, "master", "br0", "up"]
        )
        commands.append(_no_offload(port))
    script(store.namespace("underlay"), commands, "underlay")


def set_up_nsdb_link(spec: LabSpec, store: Store) -> None:
    """Give the database its underlay address, when it listens there."""
    if spec.nsdb.tcp:
        ip = f"{spec.nsdb.ip}/{spec.underlay.prefix_length}"
        interface = Interface(UNDERLAY_DEVICE, (ip,))
        commands = _interface(interface, spec.underlay.mtu_bytes)
        script(store.namespace("nsdb"), commands, "nsdb")


def set_up_host_links(spec: LabSpec, store: Store, host: Host) -> None:
    """Bring a host's interfaces up; none of them has an address of its own."""
    mtu_by_device = {UNDERLAY_DEVICE: spec.underlay.mtu_bytes}
    for link in spec.links:
        if isinstance(link.far, HostEnd) and link.far.host == host.name:
            mtu_by_device[link.far.device] = link.mtu_bytes
    commands = []
    for device, mtu in mtu_by_device.items():
        commands.append(["ip", "link", "set", "dev", device, "mtu", str(mtu), "up"])
        commands.append(_no_offload(device))
    script(store.namespace(host.name), commands, host.name)


def set_up_machine(spec: LabSpec, store: Store, machine: Machine) -> None:
    """Bring up a VM or outside machine with its addresses and routes.

    Raises:
        LabError: an address or route cannot be set; names the machine and command.
    """
    mtu_by_interface = dict(_machine_mtus(spec.links, machine.name))
    commands: list[list[str]] = []
    for interface in machine.interfaces:
        commands += _interface(interface, mtu_by_interface[interface.name])
    commands += [_route(route) for route in machine.routes]
    script(store.namespace(machine.name), commands, machine.name)


def port_name(host: Host) -> str:
    """Return the name of a host's port at the underlay bridge."""
    return f"h{host.index}"


def cut(store: Store, host: Host) -> None:
    """Take a host off the underlay; it keeps its carrier and notices nothing."""
    _underlay(store, ["ip", "link", "set", "dev", port_name(host), "nomaster"])


def join(store: Store, host: Host) -> None:
    """Put a host back on the underlay."""
    _underlay(store, ["ip", "link", "set", "dev", port_name(host), "master", "br0"])


def set_devices(store: Store, host: str, devices: Iterable[str], state: str) -> None:
    """Set interfaces of a host `up` or `down`."""
    commands = [["ip", "link", "set", "dev", device, state] for device in devices]
    script(store.namespace(host), commands, host)


def set_loss(store: Store, host: Host, percent: float, *, dscp: int = -1) -> None:
    """Drop a share of a host's underlay packets at random, in both directions.

    `percent` is 0..100; 0 ends the loss. With `dscp` 0..63 only packets that carry it
    are dropped.
    """
    chain, port = f"{_LOSS_TABLE} {port_name(host)}", port_name(host)
    lines = [
        f"add table {_LOSS_TABLE}",
        f"add chain {chain} {{ type filter hook forward priority 0; }}",
        f"delete chain {chain}",
    ]
    if percent > 0:
        lines.append(f"add chain {chain} {{ type filter hook forward priority 0; }}")
        share = round(percent * 100)
        chance = "" if share >= 10000 else f"numgen random mod 10000 < {share} "
        kinds = [""] if dscp < 0 else [f"ip dscp {dscp} ", f"ip6 dscp {dscp} "]
        for way in ("iifname", "oifname"):
            for kind in kinds:
                rule = f'{way} "{port}" {kind}{chance}counter drop'
                lines.append(f"add rule {chain} {rule}")
    command = inside(store.namespace("underlay"), ["nft", "-f", "-"])
    run(command, stdin="\n".join(lines) + "\n")


def deafen(store: Store, host: Host) -> None:
    """Let nothing from the underlay reach a host; what it sends goes out."""
    _deaf(store, host, "drop")


def undeafen(store: Store, host: Host) -> None:
    """End `deafen`."""
    _deaf(store, host, "accept")


def _deaf(store: Store, host: Host, verdict: str) -> None:
    port = port_name(host)
    chain = f"{_LOSS_TABLE} deaf-{port}"
    lines = [
        f"add table {_LOSS_TABLE}",
        f"add chain {chain} {{ type filter hook forward priority 1; }}",
        f"flush chain {chain}",
        f'add rule {chain} oifname "{port}" {verdict}',
    ]
    command = inside(store.namespace("underlay"), ["nft", "-f", "-"])
    run(command, stdin="\n".join(lines) + "\n")


def _pairs(spec: LabSpec, store: Store) -> Iterator[str]:
    underlay = store.namespace("underlay")
    for host in spec.hosts:
        near = f"{UNDERLAY_DEVICE} netns {store.namespace(host.name)}"
        yield _pair(near, f"{port_name(host)} netns {underlay}")
    if spec.nsdb.tcp:
        near = f"{UNDERLAY_DEVICE} netns {store.namespace('nsdb')}"
        yield _pair(near, f"{NSDB_PORT} netns {underlay}")
    for link in spec.links:
        yield _pair(
            f"{link.near.interface} netns {store.namespace(link.near.machine)}",
            _far(link, store),
        )


def _far(link: Link, store: Store) -> str:
    if isinstance(link.far, HostEnd):
        return f"{link.far.device} netns {store.namespace(link.far.host)}"
    return f"{link.far.interface} netns {store.namespace(link.far.machine)}"


def _pair(near: str, far: str) -> str:
    return f"link add name {near} type veth peer name {far}"


def _set_up_kernel(store: Store, node: str, *, forward: bool, ipv6: bool) -> None:
    """Set what a namespace may have inherited from the machine, both ways.

    Reverse-path filters would drop what comes in by another way than it left.
    """
    settings = {
        "net.ipv4.ip_forward": int(forward),
        "net.ipv4.conf.all.rp_filter": 0,
        "net.ipv4.conf.default.rp_filter": 0,
        # A host's underlay device must not answer for the bridge beside it.
        "net.ipv4.conf.all.arp_ignore": 1,
        "net.ipv4.ping_group_range": "0 2147483647",
        "net.ipv6.conf.all.forwarding": int(forward),
        "net.ipv6.conf.all.accept_dad": 0,
        "net.ipv6.conf.default.accept_dad": 0,
        "net.ipv6.conf.default.router_solicitations": 0,
        "net.ipv6.conf.default.disable_ipv6": int(not ipv6),
    }
    if not os.path.exists("/proc/sys/net/ipv6"):
        settings = {k: v for k, v in settings.items() if "ipv6" not in k}
    values = [f"{name}={value}" for name, value in settings.items()]
    commands = [["sysctl", "-qw", *values], ["ip", "link", "set", "dev", "lo", "up"]]
    script(store.namespace(node), commands, node)


def _no_offload(device: str) -> list[str]:
    """Have full checksums on the wire: the userspace datapath sees raw frames."""
    return ["ethtool", "-K", device, "tx", "off"]


def _interface(interface: Interface, mtu_bytes: int) -> Iterator[list[str]]:
    base = ["ip", "link", "set", "dev", interface.name]
    if interface.mac:
        yield [*base, "address", interface.mac]
    yield [*base, "mtu", str(mtu_bytes), "up"]
    yield _no_offload(interface.name)
    for ip in interface.ips:
        yield ["ip", "addr", "add", ip, "dev", interface.name]


def _route(route: Route) -> list[str]:
    family = "-6" if ":" in route.via else "-4"
    return ["ip", family, "route", "add", route.to, "via", route.via]


def _machine_mtus(links: Iterable[Link], machine: str) -> Iterator[tuple[str, int]]:
    for link in links:
        for end in (link.near, link.far):
            if not isinstance(end, HostEnd) and end.machine == machine:
                yield end.interface, link.mtu_bytes


def _underlay(store: Store, command: list[str]) -> None:
    run(inside(store.namespace("underlay"), command))


def _batch(lines: Iterable[str]) -> None:
    run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
