# SPDX-License-Identifier: Apache-2.0
"""The topology of a simulated cloud: gateways, hosts with VMs, every kind of NAT.

Each VM host has two VMs on one network. Odd VMs have an IPv6 address that the outside
reaches, even ones are masqueraded in IPv6 too. A load balancer on the router and one on
the network share their members. In a world `apart` the gateways' uplinks are on two
provider routers, all in one ingress set, and each router falls back to the other one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midoryu.packet.address import format_ip, parse_ip, parse_mac
from midoryu.topology import model
from midoryu.topology.balancer import vip_mac
from tests.helpers.builder import Builder

NAT4, DNAT4, FLOATING4 = "203.0.113.10", "203.0.113.20", "203.0.113.30"
NAT6 = "2001:db8:ff::10"
VIP4, VIP6 = "203.0.113.40", "2001:db8:ff::40"
LAN_VIP = "10.0.1.100"
POOL = "shop"
SERVERS4 = ("198.51.100.10", "198.51.100.11")
SERVERS6 = ("2001:db8:99::10", "2001:db8:99::11")


@dataclass
class Vm:
    """A virtual machine as its own network stack knows it."""

    vport: str
    mac: int
    v4: int
    v6: int
    is_public: bool


@dataclass
class World:
    """Rows, and what the traffic must know of them."""

    builder: Builder
    gateways: list[str] = field(default_factory=list)
    vm_hosts: list[str] = field(default_factory=list)
    vms: list[Vm] = field(default_factory=list)
    router_mac: int = 0
    routes: dict[str, list[model.Route]] = field(default_factory=dict)
    providers: tuple[str, ...] = ("provider",)
    """The routers that have the uplinks."""

    def provider(self, gateway: str) -> str:
        """Return the router that a gateway's uplink is on."""
        return self.providers[int(gateway[4:]) % len(self.providers)]

    def uplink(self, gateway: str) -> str:
        """Return the path of a gateway's uplink."""
        return f"{self.provider(gateway)}/up{gateway[4:]}"

    def lan_mac(self, address: int) -> int:
        """Return the MAC address to which a VM sends what it has for an address."""
        if address == parse_ip(LAN_VIP):
            return vip_mac(self.builder.key("web"))
        for vm in self.vms:
            if address == vm.v4:
                return vm.mac
        return self.router_mac

    def uplink_mac(self, gateway: str) -> int:
        """Return the MAC address of a gateway's uplink."""
        return parse_mac(f"02:cc:00:00:00:{int(gateway[4:]):02x}")

    def upstream_mac(self, gateway: str) -> int:
        """Return the MAC address of the upstream router behind an uplink."""
        return parse_mac(f"02:ff:00:00:00:{int(gateway[4:]):02x}")


def make_world(hosts: int, *, apart: bool = False) -> World:
    """Make a cloud of `hosts` hosts (at least 4), a third of them gateways."""
    b = Builder()
    world = World(b, providers=("provider", "provider2") if apart else ("provider",))
    names = [f"node{number}" for number in range(1, hosts + 1)]
    count = max(2, hosts // 3)
    world.gateways, world.vm_hosts = names[:count], names[count:]
    for number, name in enumerate(names, 1):
        b.host(name, f"172.31.0.{number}")
    b.network("web")
    b.router("tenant")
    for provider in world.providers:
        b.router(provider)
    _vms(world)
    b.attach("tenant", "web", ("10.0.1.1/24", "2001:db8:1::1/64", "fd00:1::1/64"))
    world.router_mac = parse_mac(
        f"02:aa:00:00:{b.key('tenant'):02x}:{b.key('web'):02x}"
    )
    _between_routers(world)
    for gateway in world.gateways:
        _gateway(world, gateway)
    b.ingress_set("uplinks", *(world.uplink(g) for g in world.gateways))
    leaving = "" if apart else "tenant/provider"
    b.masquerade("tenant", "10.0.0.0/16", NAT4, vport=leaving)
    b.masquerade("tenant", "fd00::/16", NAT6, vport=leaving)
    b.dnat("tenant", DNAT4, "10.0.1.11", ip_proto=6, ports=(8080, 8080), to_port=80)
    b.dnat("tenant", DNAT4, "10.0.1.12", ip_proto=17, ports=(5353, 5353), to_port=53)
    b.floating("tenant", FLOATING4, "10.0.1.13")
    _balancers(world)
    return world


def member_rows(world: World, vm: Vm) -> list[model.PoolMember]:
    """Return what makes a VM a member of the pool, for both families."""
    return [
        model.PoolMember(f"member/{POOL}/{text}", f"pool/{POOL}", parse_ip(text))
        for text in (format_ip(vm.v4), format_ip(vm.v6))
    ]


def _balancers(world: World) -> None:
    """Let all VMs but one serve the VIPs; the one left out may join."""
    ports = ("80/6", "53/17")
    vips = [f"{ip}:{port}" for ip in (VIP4, f"[{VIP6}]") for port in ports]
    world.builder.balancer(POOL, "tenant", vips, ())
    for vm in (*world.vms[:1], *world.vms[2:]):
        for row in member_rows(world, vm):
            world.builder.put(row)
    # The same members, called beside them.
    b = world.builder
    b.put(model.Balancer("balancer/lan", "lan", b.key("web")))
    for proto, port in ((6, 80), (17, 53)):
        vip = f"vip/lan/{port}"
        address = parse_ip(LAN_VIP)
        b.put(model.Vip(vip, "balancer/lan", address, f"pool/{POOL}", proto, port))


def _vms(world: World) -> None:
    b = world.builder
    accept = model.RuleAction.ACCEPT
    known = model.CT_ESTABLISHED | model.CT_RELATED
    chain = b.chain(
        "to-vm",
        model.Rule(accept, ct_states=known),
        model.Rule(accept, ip_proto=6, destination_ports=((80, 80),)),
        model.Rule(accept, ip_proto=17, destination_ports=((53, 53),)),
        accept=False,
    )
    for index in range(2 * len(world.vm_hosts)):
        number = 11 + index
        mac = f"02:00:00:00:00:{number:02x}"
        is_public = index % 2 == 0
        v6 = ("2001:db8:1::" if is_public else "fd00:1::") + f"{number:x}"
        v4 = f"10.0.1.{number}"
        path = f"web/vm{number}"
        b.vport(
            path,
            host=world.vm_hosts[index // 2],
            mac=mac,
            ip=(v4, v6),
            egress_chain=chain,
        )
        vm = Vm(path, parse_mac(mac), parse_ip(v4), parse_ip(v6), is_public)
        world.vms.append(vm)


def _between_routers(world: World) -> None:
    b = world.builder
    for number, provider in enumerate(world.providers):
        _connect(b, "tenant", provider, number)
        b.route("tenant", "0.0.0.0/0", via=f"100.64.{number}.1")
        b.route("tenant", "::/0", via=f"2001:db8:64:{number}::1")
        b.route(provider, "203.0.113.0/24", via=f"100.64.{number}.2")
        for to in ("2001:db8:1::/64", "2001:db8:ff::/64"):
            b.route(provider, to, via=f"2001:db8:64:{number}::2")
    if len(world.providers) == 2:
        one, other = world.providers
        _connect(b, one, other, 9)
        for router, end in ((one, 1), (other, 2)):
            b.route(router, "0.0.0.0/0", via=f"100.64.9.{end}", metric=10)
            b.route(router, "::/0", via=f"2001:db8:64:9::{end}", metric=10)


def _connect(b: Builder, one: str, other: str, number: int) -> None:
    """Link two routers; the first one has the address that ends with 2."""
    for router, peer, end in ((one, other, 2), (other, one, 1)):
        mac = f"02:bb:00:00:{number:02x}:{end:02x}"
        ips = (f"100.64.{number}.{end}/30", f"2001:db8:64:{number}::{end}/64")
        b.vport(f"{router}/{peer}", mac=mac, ip=ips)
    b.link(f"{one}/{other}", f"{other}/{one}")


def _gateway(world: World, gateway: str) -> None:
    b, number = world.builder, int(gateway[4:])
    v6 = f"2001:db8:a{number:x}::"
    base = f"192.0.2.{number * 4 + 1}"
    b.vport(
        world.uplink(gateway),
        host=gateway,
        mac=f"02:cc:00:00:00:{number:02x}",
        ip=(f"192.0.2.{number * 4 + 2}/30", f"{v6}2/64"),
    )
    world.routes[gateway] = []
    for to, via in (("0.0.0.0/0", base), ("::/0", f"{v6}1")):
        world.routes[gateway].append(b.route(world.provider(gateway), to, via=via))
        b.put(
            model.Neighbor(
                f"neighbor/{via}",
                b.key(world.provider(gateway)),
                parse_ip(via),
                world.upstream_mac(gateway),
            )
        )
