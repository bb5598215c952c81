# SPDX-License-Identifier: Apache-2.0
"""Load balancers with client, gateways and members on different hosts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from midoryu.packet.address import format_ip, format_mac, parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.topology import model
from midoryu.topology.balancer import vip_mac
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.fabric import Delivery, Fabric
from tests.helpers.worlds import FAMILIES, V4, Family

OUTSIDE: Final = {"IPv4": "198.51.100.9", "IPv6": "2001:db8:9::9"}
UPLINKS: Final = {
    "IPv4": ("192.0.2.{0}/30", 4),
    "IPv6": ("2001:db8:1:{0}::2/64", 1),
}
ON_WEB: Final = ("vm1", "vm2", "vm3")
HOSTS: Final = {"vm1": "node1", "vm2": "node2", "vm3": "node3", "vm4": "node4"}


def vip_of(family: Family, device: str) -> str:
    return family.nat_ip(80) if device != "web" else family.ip(1, 80)


def at(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def member(family: Family, vm: int) -> str:
    return at(family.ip(1, 10 + vm), 8080)


def shop(
    family: Family = V4,
    device: str = "tenant",
    *,
    members: Any = (),
    proto: int = 6,
    **pool: Any,
) -> Builder:
    """Networks web (vm1, vm2, vm3) and far (vm4) around tenant; two gateways.

    The VIP's port 80 leads to port 8080 of vm2 and vm3.
    """
    b = Builder()
    for number in (1, 2, 3, 4):
        b.host(f"node{number}", f"172.31.0.{number}")
    b.network("web")
    b.network("far")
    b.router("tenant")
    b.router("provider")
    for number in (1, 2, 3, 4):
        network = "web" if number < 4 else "far"
        ip = family.ip(1 if number < 4 else 2, 10 + number)
        b.vport(
            f"{network}/vm{number}",
            host=f"node{number}",
            mac=f"02:00:00:00:00:0{number}",
            ip=ip,
        )
    b.attach("tenant", "web", f"{family.ip(1, 1)}/{family.bits}")
    b.attach("tenant", "far", f"{family.ip(2, 1)}/{family.bits}")
    inner = ("100.64.0.{}/30", "fd64::{}/64")[family.is_v6]
    b.connect("tenant", inner.format(2), "provider", inner.format(1))
    text = ("192.0.2.{}/30", "2001:db8:1:{}::2/64")[family.is_v6]
    for number in (1, 4):
        own = text.format(number if family.is_v6 else number * 4 - 2)
        gateway = own.partition("/")[0][:-1] + "1"
        if not family.is_v6:
            gateway = f"192.0.2.{number * 4 - 3}"
        mac = f"02:cc:00:00:00:0{number}"
        b.vport(f"provider/uplink{number}", host=f"node{number}", mac=mac, ip=own)
        b.route("provider", family.default, via=gateway)
        b.put(
            model.Neighbor(
                f"neighbor/{number}",
                b.key("provider"),
                parse_ip(gateway),
                parse_mac(f"02:ff:00:00:00:0{number}"),
            )
        )
    b.route("tenant", family.default, via=inner.format(1).partition("/")[0])
    via = inner.format(2).partition("/")[0]
    b.route(
        "provider", f"{vip_of(family, 'tenant')}/{128 if family.is_v6 else 32}", via=via
    )
    for number in (1, 2):
        b.route("provider", family.subnet(number), via=via)
    b.ingress_set("uplinks", "provider/uplink1", "provider/uplink4")
    members = members or [member(family, 2), member(family, 3)]
    vip = at(vip_of(family, device), 80)
    b.balancer("shop", device, [f"{vip}/{proto}"], members, **pool)
    return b


class Shop:
    """A fabric around `shop`, with frames of its machines."""

    def __init__(self, family: Family = V4, device: str = "tenant", **fields: Any):
        config = fields.pop("config", {})
        self.b = fields.pop("builder", None) or shop(family, device, **fields)
        self.family, self.device = family, device
        self.fabric = Fabric(self.b, **config)
        self.vip = vip_of(family, device)
        self.fabric.advance(3.0)

    def ip(self, machine: str) -> str:
        if machine.startswith("gw"):
            return OUTSIDE[self.family.name]
        number = int(machine[-1])
        return self.family.ip(1 if number < 4 else 2, 10 + number)

    def path(self, machine: str) -> str:
        if machine.startswith("gw"):
            return f"provider/uplink{machine[2:]}"
        return f"{'web' if machine in ON_WEB else 'far'}/{machine}"

    def frame(self, machine: str, to: str, **fields: Any) -> bytes:
        """Make a frame of a machine to an address, by its next hop's MAC address."""
        make = fields.pop("make", frames.tcp)
        values: dict[str, Any] = {"src": self.ip(machine), "dst": to, **fields}
        if machine.startswith("gw"):
            number = machine[2:]
            values["eth_src"] = f"02:ff:00:00:00:0{number}"
            values["eth_dst"] = f"02:cc:00:00:00:0{number}"
        else:
            values["eth_src"] = f"02:00:00:00:00:0{machine[-1]}"
            values["eth_dst"] = self.next_hop(machine, to)
        return bytes(make(**values))

    def next_hop(self, machine: str, to: str) -> str:
        network = "web" if machine in ON_WEB else "far"
        for other in ON_WEB if network == "web" else ("vm4",):
            if self.ip(other) == to:
                return f"02:00:00:00:00:0{other[-1]}"
        if to == self.vip and self.device == network:
            return format_mac(vip_mac(self.b.key(network)))
        return f"02:aa:00:00:{self.b.key('tenant'):02x}:{self.b.key(network):02x}"

    def send(self, machine: str, to: str, **fields: Any) -> list[Delivery]:
        return self.fabric.send(self.path(machine), self.frame(machine, to, **fields))

    def call(
        self, machine: str, sport: int = 40000, **fields: Any
    ) -> tuple[str, Packet]:
        """Call the VIP; return who got it, and how it looks there."""
        fields = {"sport": sport, "dport": 80, **fields}
        return only(self.send(machine, self.vip, **fields))

    def answer(self, at: str, packet: Packet, **fields: Any) -> tuple[str, Packet]:
        """Let a machine answer a packet; return who gets it, and how it looks."""
        headers = packet.headers
        values = {"sport": headers.l4_dst, "dport": headers.l4_src, "flags": "SA"}
        machine = at.partition("/")[2]
        return only(
            self.send(machine, format_ip(headers.ip_src), **{**values, **fields})
        )

    def change(self, *rows: Any) -> None:
        self.fabric.change(
            *(row if isinstance(row, model.Gone) else model.Put(row) for row in rows)
        )


def only(deliveries: list[Delivery]) -> tuple[str, Packet]:
    assert len(deliveries) == 1, deliveries
    return deliveries[0].vport, decode(deliveries[0].frame)


def same(one: str, other: str) -> bool:
    """Tell whether two vports are one, or both uplinks (devices speak by any)."""
    return one == other or {one[:8], other[:8]} == {"provider"}


def tuple_of(packet: Packet) -> tuple[str, int, str, int]:
    h = packet.headers
    return format_ip(h.ip_src), h.l4_src, format_ip(h.ip_dst), h.l4_dst


DEVICES = pytest.mark.parametrize("device", ["tenant", "web", "provider"])


CALLS = [
    (device, client)
    for device in ("tenant", "web", "provider")
    for client in ("gw1", "vm4", "vm1", "vm2", "vm3")
    if (device, client) != ("provider", "gw1")  # as on tenant but for the device
]


@FAMILIES
@pytest.mark.parametrize(("device", "client"), CALLS)
def test_a_call_reaches_a_member_and_the_answer_comes_from_the_vip(
    family: Family, device: str, client: str
) -> None:
    world = Shop(family, device)
    seen = set()
    for sport in range(40000, 40012):
        where, packet = world.call(client, sport)
        source, from_port, destination, port = tuple_of(packet)
        assert where in ("web/vm2", "web/vm3")
        assert (destination, port) == (world.ip(where[4:]), 8080)
        itself = where == world.path(client)
        assert source == (world.vip if itself else world.ip(client))
        assert from_port == sport
        back, reply = world.answer(where, packet)
        assert back == world.path(client)
        assert tuple_of(reply) == (world.vip, 80, world.ip(client), sport)
        where2, more = world.call(client, sport, flags="A", payload=b"x")
        assert (where2, tuple_of(more)) == (where, tuple_of(packet))
        seen.add(where)
    assert seen == {"web/vm2", "web/vm3"}


@DEVICES
@pytest.mark.parametrize("first", ["VIP", "direct"])
@pytest.mark.parametrize("client", ["gw1", "vm1", "vm4"])
def test_a_direct_connection_with_the_same_tuple_does_not_collide(
    device: str, first: str, client: str
) -> None:
    world = Shop(V4, device, members=[member(V4, 2)])
    direct = {"sport": 40000, "dport": 8080}
    target = world.ip("vm2")
    calls = {
        "VIP": lambda: world.call(client),
        "direct": lambda: only(world.send(client, target, **direct)),
    }
    order = [first, *(name for name in calls if name != first)]
    packets = {name: calls[name]() for name in order}
    assert {where for where, _ in packets.values()} == {"web/vm2"}
    assert len({tuple_of(packet) for _, packet in packets.values()}) == 2
    expected = {
        "VIP": (world.vip, 80, world.ip(client), 40000),
        "direct": (target, 8080, world.ip(client), 40000),
    }
    for name in (*order, *order):
        back, reply = world.answer("web/vm2", packets[name][1])
        assert (back, tuple_of(reply)) == (world.path(client), expected[name])
        where, again = calls[name]()
        assert (where, tuple_of(again)) == (where, tuple_of(packets[name][1]))


@FAMILIES
def test_two_gateways_choose_alike_before_either_knows(family: Family) -> None:
    world = Shop(family)
    world.fabric.drop = lambda packet: packet.is_state
    for sport in range(40000, 40010):
        one, _ = world.call("gw1", sport)
        other, _ = world.call("gw4", sport)
        assert one == other


def test_a_connection_survives_its_gateway_and_a_changed_pool() -> None:
    world = Shop(V4)
    calls = {sport: world.call("gw1", sport) for sport in range(40000, 40010)}
    for where, packet in calls.values():
        assert world.answer(where, packet)[0] == "provider/uplink1"
    world.change(*(world.b.member("shop", member(V4, n)) for n in (1,)))
    world.fabric.stop("node1")
    world.fabric.drop = lambda p: "node1" in (p.source, p.destination)
    world.fabric.advance(1.0)
    for sport, (where, packet) in calls.items():
        again, more = world.call("gw4", sport, flags="A", payload=b"x")
        assert (again, tuple_of(more)) == (where, tuple_of(packet))
        assert world.answer(where, packet, flags="A")[0] == "provider/uplink4"


@pytest.mark.parametrize("device", ["tenant", "web"])
@pytest.mark.parametrize("machine", ["gw1", "vm1", "vm4"])
@pytest.mark.parametrize("ends", [False, True], ids=["keep", "end"])
def test_connections_of_a_removed_member_go_on_or_end(
    device: str, machine: str, ends: bool
) -> None:
    world = Shop(V4, device, ends_removed=ends)
    calls = {sport: world.call(machine, sport) for sport in range(40000, 40010)}
    for where, packet in calls.values():
        world.answer(where, packet)
    world.change(model.Gone(model.PoolMember, f"member/shop/{member(V4, 3)}"))
    for sport, (where, packet) in calls.items():
        again, _ = world.call(machine, sport, flags="A", payload=b"x")
        if where == "web/vm2" or not ends:
            assert again == where
            back, reply = world.answer(where, packet, flags="A")
            assert tuple_of(reply) == (world.vip, 80, world.ip(machine), sport)
        else:
            assert again == "web/vm2"
    for sport in range(41000, 41010):
        assert world.call(machine, sport)[0] == "web/vm2"


@FAMILIES
@pytest.mark.parametrize("device", ["tenant", "web"])
def test_a_draining_member_keeps_what_it_has_and_gets_nothing_new(
    family: Family, device: str
) -> None:
    world = Shop(family, device)
    calls = {sport: world.call("vm1", sport) for sport in range(40000, 40010)}
    assert {where for where, _ in calls.values()} == {"web/vm2", "web/vm3"}
    world.change(world.b.member("shop", member(family, 3), 0))
    for sport, (where, packet) in calls.items():
        assert world.call("vm1", sport, flags="A", payload=b"x")[0] == where
        world.answer(where, packet, flags="A")
    for sport in range(41000, 41010):
        assert world.call("vm1", sport)[0] == "web/vm2"


@FAMILIES
@pytest.mark.parametrize("how", ["removed", "draining"])
@pytest.mark.parametrize(("device", "client"), [("tenant", "gw1"), ("web", "vm1")])
def test_a_port_that_calls_again_after_its_member_left_gets_another_one(
    family: Family, device: str, client: str, how: str
) -> None:
    world = Shop(family, device)
    calls = {sport: world.call(client, sport) for sport in range(40000, 40008)}
    for sport, (where, packet) in calls.items():
        world.answer(where, packet)
        world.call(client, sport, flags="FA")
        world.answer(where, packet, flags="FA")
    world.fabric.advance(30.0)
    row = world.b.member("shop", member(family, 3), 0)
    gone = model.Gone(model.PoolMember, f"member/shop/{member(family, 3)}")
    world.change(gone if how == "removed" else row)
    for sport in calls:
        where, packet = world.call(client, sport)
        assert where == "web/vm2"
        back, reply = world.answer(where, packet)
        assert back == world.path(client)
        assert tuple_of(reply) == (world.vip, 80, world.ip(client), sport)
        assert world.call(client, sport, flags="A")[0] == "web/vm2"
    assert {where for where, _ in calls.values()} == {"web/vm2", "web/vm3"}


def test_weights_share_new_connections() -> None:
    world = Shop(V4, members=[(member(V4, 2), 1), (member(V4, 3), 4)])
    got = [world.call("vm1", sport)[0] for sport in range(40000, 40200)]
    assert 0.65 < got.count("web/vm3") / len(got) < 0.93


@FAMILIES
def test_a_source_comes_back_to_its_member_by_any_gateway(family: Family) -> None:
    world = Shop(family, affinity_s=60.0)
    (where,) = {world.call("gw1", sport)[0] for sport in range(40000, 40010)}
    assert {world.call("gw4", sport)[0] for sport in range(41000, 41010)} == {where}
    draining = member(family, int(where[-1]))
    world.change(world.b.member("shop", draining, 0))
    assert {world.call("gw4", sport)[0] for sport in range(42000, 42010)} == {where}


def test_affinity_ends_after_its_time() -> None:
    world = Shop(V4, proto=17, affinity_s=20.0, config={"flow_idle_timeout_s": 2})
    call: dict[str, Any] = {"make": frames.udp}
    where, _ = world.call("gw1", **call)
    world.change(world.b.member("shop", member(V4, int(where[-1])), 0))
    world.fabric.advance(10.0)
    assert world.call("gw4", 40001, **call)[0] == where
    world.fabric.idle_flows()
    world.fabric.advance(25.0, step=1.0)
    assert world.call("gw4", 40002, **call)[0] != where


@FAMILIES
@pytest.mark.parametrize("device", ["tenant", "web"])
@pytest.mark.parametrize("machine", ["vm1", "vm4", "gw1"])
def test_without_a_member_tcp_is_reset_and_udp_told(
    family: Family, device: str, machine: str
) -> None:
    down = [(member(family, 2), 0)]
    world = Shop(family, device, members=down)
    back, reset = only(world.send(machine, world.vip, sport=40000, dport=80))
    assert same(back, world.path(machine))
    assert tuple_of(reset) == (world.vip, 80, world.ip(machine), 40000)
    assert reset.tcp_flags & 4
    world = Shop(family, device, members=down, proto=17)
    told = world.send(machine, world.vip, dport=80, make=frames.udp)
    back, error = only(told)
    assert same(back, world.path(machine))
    kind = (error.headers.l4_src, error.headers.l4_dst)
    assert kind == ((1, 4) if family.is_v6 else (3, 3))
    assert error.embedded is not None
    assert format_ip(error.embedded.ip_dst) == world.vip


def test_without_a_member_packets_are_dropped_where_asked() -> None:
    world = Shop(V4, members=[(member(V4, 2), 0)], rejects=False)
    assert world.send("vm1", world.vip, sport=40000, dport=80) == []
    world.change(world.b.member("shop", member(V4, 2), 1))
    assert world.call("vm1")[0] == "web/vm2"


@FAMILIES
@pytest.mark.parametrize("device", ["tenant", "web"])
@pytest.mark.parametrize("machine", ["vm1", "vm4", "gw1"])
def test_the_vip_answers_echo_and_closes_other_ports(
    family: Family, device: str, machine: str
) -> None:
    world = Shop(family, device)
    make = frames.icmp6_echo if family.is_v6 else frames.icmp_echo
    back, reply = only(world.send(machine, world.vip, make=make))
    assert same(back, world.path(machine))
    assert format_ip(reply.headers.ip_src) == world.vip
    assert reply.headers.l4_src == (129 if family.is_v6 else 0)
    back, reset = only(world.send(machine, world.vip, sport=40000, dport=81))
    assert same(back, world.path(machine))
    assert reset.tcp_flags & 4


@FAMILIES
def test_a_network_answers_for_its_vip(family: Family) -> None:
    world = Shop(family, "web")
    mac = format_mac(vip_mac(world.b.key("web")))
    if family.is_v6:
        ask = frames.neighbor_solicitation(src=world.ip("vm1"), target=world.vip)
    else:
        ask = frames.arp(src=world.ip("vm1"), dst=world.vip)
    ((vport, frame),) = world.fabric.send("web/vm1", ask)
    assert vport == "web/vm1"
    assert format_mac(decode(frame).headers.eth_src) == mac


@FAMILIES
@pytest.mark.parametrize("device", ["tenant", "web"])
@pytest.mark.parametrize("machine", ["vm1", "vm4", "gw1"])
def test_an_error_of_a_member_is_translated(
    family: Family, device: str, machine: str
) -> None:
    world = Shop(family, device, proto=17)
    where, packet = world.call(machine, make=frames.udp)
    deliveries = world.fabric.delivered
    quoted = deliveries[0].frame[14:]
    kind, code = (1, 4) if family.is_v6 else (3, 3)
    vm = where[4:]
    error = frames.icmp_error(
        quoted,
        src=world.ip(vm),
        dst=format_ip(packet.headers.ip_src),
        kind=kind,
        code=code,
        eth_src=f"02:00:00:00:00:0{vm[-1]}",
        eth_dst=world.next_hop(vm, format_ip(packet.headers.ip_src)),
    )
    back, seen = only(world.fabric.send(where, error))
    assert back == world.path(machine)
    assert format_ip(seen.headers.ip_src) == world.vip
    assert seen.embedded is not None
    assert format_ip(seen.embedded.ip_dst) == world.vip
    assert (seen.embedded.l4_src, seen.embedded.l4_dst) == (40000, 80)


@pytest.mark.parametrize("device", ["tenant", "web"])
@pytest.mark.parametrize("machine", ["vm1", "vm4", "gw1"])
def test_stateful_filters_let_a_call_and_its_answer_through(
    device: str, machine: str
) -> None:
    b = shop(V4, device)
    accept = model.RuleAction.ACCEPT
    live = model.Rule(accept, ct_states=model.CT_ESTABLISHED | model.CT_RELATED)
    serves = model.Rule(accept, ip_proto=6, destination_ports=((8080, 8080),))
    calls = model.Rule(accept, ip_proto=6, destination_ports=((80, 80),))
    inside = b.chain("to-member", live, serves, accept=False)
    only_live = b.chain("only-live", live, accept=False)
    may_call = b.chain("may-call", live, calls, accept=False)
    for vm in (2, 3):
        key = b.key(f"web/vm{vm}")
        row = next(r for r in b.rows if isinstance(r, model.Vport) and r.key == key)
        b.put(replace(row, egress_chain=inside, ingress_chain=only_live))
    for path in ("web/vm1", "far/vm4"):
        key = b.key(path)
        row = next(r for r in b.rows if isinstance(r, model.Vport) and r.key == key)
        b.put(replace(row, egress_chain=only_live, ingress_chain=may_call))
    world = Shop(V4, device, builder=b)
    where, packet = world.call(machine)
    back, reply = world.answer(where, packet)
    assert tuple_of(reply) == (world.vip, 80, world.ip(machine), 40000)
    assert world.call(machine, flags="A", payload=b"x")[0] == where


@pytest.mark.parametrize("device", ["tenant", "web"])
def test_a_floating_address_leads_to_the_vip(device: str) -> None:
    b = shop(V4, device)
    floating = "203.0.113.99"
    b.floating("tenant", floating, vip_of(V4, device))
    b.route("provider", f"{floating}/32", via="100.64.0.2")
    world = Shop(V4, device, builder=b)
    for sport in range(40000, 40006):
        sent = world.send("gw1", floating, sport=sport, dport=80)
        where, packet = only(sent)
        assert tuple_of(packet)[2:] == (world.ip(where[4:]), 8080)
        back, reply = world.answer(where, packet)
        assert back.startswith("provider/uplink")
        assert tuple_of(reply) == (floating, 80, world.ip("gw1"), sport)
        again, more = only(
            world.send("gw4", floating, sport=sport, dport=80, flags="A", payload=b"x")
        )
        assert (again, tuple_of(more)) == (where, tuple_of(packet))


def test_a_member_outside_is_reached_through_the_masquerade() -> None:
    b = shop(V4, members=["198.51.100.77:8080"])
    b.masquerade("tenant", "10.0.0.0/16", "203.0.113.10", vport="tenant/provider")
    b.route("provider", "203.0.113.10/32", via="100.64.0.2")
    world = Shop(V4, builder=b)
    where, packet = world.call("vm1")
    source, port, *target = tuple_of(packet)
    assert where.startswith("provider/uplink")
    assert (source, target) == ("203.0.113.10", ["198.51.100.77", 8080])
    number = int(where[-1])
    reply = frames.tcp(
        src="198.51.100.77",
        dst=source,
        sport=8080,
        dport=port,
        flags="SA",
        eth_src=f"02:ff:00:00:00:0{number}",
        eth_dst=f"02:cc:00:00:00:0{number}",
    )
    back, seen = only(world.fabric.send(where, reply))
    assert (back, tuple_of(seen)) == ("web/vm1", (world.vip, 80, "10.0.1.11", 40000))


def test_an_address_wide_vip_keeps_the_port() -> None:
    b = shop(V4)
    b.balancer("all", "tenant", ["203.0.113.81"], ["10.0.1.12"])
    b.route("provider", "203.0.113.81/32", via="100.64.0.2")
    world = Shop(V4, builder=b)
    for make in (frames.tcp, frames.udp):
        where, packet = only(
            world.send("gw1", "203.0.113.81", sport=5000, dport=4321, make=make)
        )
        assert (where, packet.headers.l4_dst) == ("web/vm2", 4321)
        extra: dict[str, Any] = {"make": make}
        if make is frames.udp:
            extra["flags"] = ""
            extra.pop("flags")
        headers = packet.headers
        back = world.send(
            "vm2",
            format_ip(headers.ip_src),
            sport=4321,
            dport=5000,
            make=make,
        )
        _, reply = only(back)
        assert tuple_of(reply)[:2] == ("203.0.113.81", 4321)


def test_an_ended_balancer_ends_its_connections() -> None:
    world = Shop(V4)
    where, packet = world.call("vm4")
    world.answer(where, packet)
    for host in ("node4", where.replace("web/vm", "node")):
        assert len(world.fabric.records(host)) == 1
    world.change(model.Gone(model.Balancer, "balancer/shop"))
    for host in ("node4", where.replace("web/vm", "node")):
        assert world.fabric.records(host) == []


def test_a_client_and_a_member_outside_meet_by_the_vip() -> None:
    b = shop(V4, "provider", members=["198.51.100.77:8080"])
    world = Shop(V4, "provider", builder=b)
    world.fabric.send("provider/uplink1", world.frame("gw1", world.vip, dport=80))
    for sport in (40000, 40001):
        where, packet = world.call("gw1", sport)
        source, port, *target = tuple_of(packet)
        assert where.startswith("provider/uplink")
        assert (source, target) == (world.vip, ["198.51.100.77", 8080])
        for number in "14":
            reply = frames.tcp(
                src="198.51.100.77",
                dst=world.vip,
                sport=8080,
                dport=port,
                flags="SA",
                eth_src=f"02:ff:00:00:00:0{number}",
                eth_dst=f"02:cc:00:00:00:0{number}",
            )
            back, seen = only(world.fabric.send(f"provider/uplink{number}", reply))
            assert back.startswith("provider/uplink")
            assert tuple_of(seen) == (world.vip, 80, world.ip("gw1"), sport)


@FAMILIES
@pytest.mark.parametrize("device", ["tenant", "web"])
def test_sctp_is_balanced(family: Family, device: str) -> None:
    def sctp(**fields: Any) -> bytes:
        macs = {name: fields.pop(name) for name in ("eth_src", "eth_dst")}
        frame = frames.sctp(**fields)
        return frames.ethernet(frames.Ether(frame).payload, **macs)

    world = Shop(family, device, proto=132)
    got = set()
    for sport in range(40000, 40010):
        where, packet = world.call("vm4", sport, make=sctp)
        headers = packet.headers
        back = world.send(
            where[4:],
            format_ip(headers.ip_src),
            make=sctp,
            sport=headers.l4_dst,
            dport=headers.l4_src,
        )
        assert tuple_of(only(back)[1]) == (world.vip, 80, world.ip("vm4"), sport)
        got.add(where)
    assert got == {"web/vm2", "web/vm3"}


@pytest.mark.parametrize("device", ["tenant", "web"])
@pytest.mark.parametrize("forgetful", ["node1", "node2", "node3", "node4"])
@pytest.mark.parametrize("removed", [False, True])
def test_connections_survive_an_agent_that_forgets(
    device: str, forgetful: str, removed: bool
) -> None:
    world = Shop(V4, device)
    calls = {
        (machine, sport): world.call(machine, sport)
        for machine in ("gw1", "vm4", "vm1")
        for sport in range(40000, 40004)
    }
    for (_, _), (where, packet) in calls.items():
        world.answer(where, packet)
    if removed:
        world.change(model.Gone(model.PoolMember, f"member/shop/{member(V4, 3)}"))
    world.fabric.stop(forgetful)
    world.fabric.start(forgetful, keep_switch=False)
    world.fabric.advance(2.0)
    for (machine, sport), (where, packet) in calls.items():
        back, reply = world.answer(where, packet, flags="A")
        assert tuple_of(reply) == (world.vip, 80, world.ip(machine), sport)
        again, _ = world.call(machine, sport, flags="A", payload=b"x")
        assert again == where


def test_gateways_that_know_nothing_lead_a_source_alike() -> None:
    world = Shop(V4, affinity_s=60.0)
    world.fabric.drop = lambda packet: packet.is_state
    wheres = {world.call(f"gw{n}", 40000 + n)[0] for n in (1, 4, 1, 4)}
    assert len(wheres) == 1


def test_a_removed_member_outside_goes_on() -> None:
    b = shop(V4, "provider", members=["198.51.100.77:8080"])
    world = Shop(V4, "provider", builder=b)
    where, packet = world.call("vm4")
    world.change(model.Gone(model.PoolMember, "member/shop/198.51.100.77:8080"))
    for number in "14":
        reply = frames.tcp(
            src="198.51.100.77",
            dst=world.ip("vm4"),
            sport=8080,
            dport=40000,
            flags="SA",
            eth_src=f"02:ff:00:00:00:0{number}",
            eth_dst=f"02:cc:00:00:00:0{number}",
        )
        back, seen = only(world.fabric.send(f"provider/uplink{number}", reply))
        assert back == "far/vm4"
        assert tuple_of(seen) == (world.vip, 80, world.ip("vm4"), 40000)
    assert world.call("vm4", flags="A", payload=b"x")[0] == where
    assert tuple_of(packet)[2:] == ("198.51.100.77", 8080)


@pytest.mark.parametrize("device", ["tenant", "web"])
@pytest.mark.parametrize("ends", [False, True])
def test_a_database_that_is_emptied_and_filled_again_ends_nothing(
    device: str, ends: bool
) -> None:
    world = Shop(V4, device, ends_removed=ends)
    calls = {sport: world.call("gw1", sport) for sport in range(40000, 40006)}
    for where, packet in calls.values():
        world.answer(where, packet)
    world.fabric.change(*(model.Gone(type(row), row.key) for row in world.b.rows))
    world.change(*world.b.rows)
    world.fabric.advance(1.0)
    for sport, (where, packet) in calls.items():
        back, reply = world.answer(where, packet, flags="A")
        assert back == "provider/uplink1"
        assert tuple_of(reply) == (world.vip, 80, world.ip("gw1"), sport)
