# SPDX-License-Identifier: Apache-2.0
"""Topologies for tests, row by row, with names instead of keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from midoryu.packet.address import Prefix, parse_ip, parse_mac, parse_prefix
from midoryu.topology import model
from midoryu.topology.snapshot import Topology


def interface(text: str) -> Prefix:
    """Read `address/length`, keeping the host bits."""
    address, _, length = text.partition("/")
    bits = 128 if ":" in address else 32
    return Prefix(parse_ip(address), 128 - bits + int(length or bits))


def _endpoint(text: str) -> tuple[int, int]:
    if text.startswith("["):
        address, _, port = text[1:].partition("]:")
        return parse_ip(address), int(port)
    if text.count(":") > 1:
        return parse_ip(text), 0
    address, _, port = text.partition(":")
    return parse_ip(address), int(port or 0)


_R = TypeVar("_R", bound=Any)


class Builder:
    """Collects rows; `rows` are what a test hands to a topology or a fabric."""

    def __init__(self) -> None:
        self._next = 1
        self._rows: dict[tuple[type, Any], Any] = {}
        self.keys: dict[str, int] = {}
        """Name ("node1", "web", "web/vm1") -> key."""

    @property
    def rows(self) -> tuple[Any, ...]:
        return tuple(self._rows.values())

    def topology(self) -> Topology:
        topology = Topology()
        topology.apply(model.Put(row) for row in self.rows)
        return topology

    def put(self, row: _R) -> _R:
        self._rows[(type(row), row.key)] = row
        return row

    def key(self, name: str) -> int:
        if name not in self.keys:
            self.keys[name] = self._next
            self._next += 1
        return self.keys[name]

    def host(self, name: str, underlay: str) -> model.Host:
        return self.put(model.Host(self.key(name), name, parse_ip(underlay)))

    def network(self, name: str, **fields: Any) -> model.Network:
        return self.put(model.Network(self.key(name), name, **fields))

    def router(self, name: str, **fields: Any) -> model.Router:
        return self.put(model.Router(self.key(name), name, **fields))

    def vport(
        self,
        path: str,
        *,
        host: str = "",
        mac: str = "",
        ip: Iterable[str] | str = (),
        up: bool = True,
        **fields: Any,
    ) -> model.Vport:
        """Add an exterior vport; with a host it is up there."""
        device, _, name = path.partition("/")
        texts = (ip,) if isinstance(ip, str) else tuple(ip)
        row = model.Vport(
            key=self.key(path),
            name=name,
            device=self.key(device),
            mac=parse_mac(mac) if mac else 0,
            addresses=tuple(interface(text) for text in texts),
            host=self.key(host) if host else 0,
            iface_id=path,
            **fields,
        )
        if host and up:
            self.put(model.VportStatus(row.key, row.host, True))
        return self.put(row)

    def link(self, one: str, other: str) -> None:
        """Link two vports that exist."""
        a, b = self.key(one), self.key(other)
        for key, peer in ((a, b), (b, a)):
            row = self._rows[(model.Vport, key)]
            self.put(replace(row, peer=peer, iface_id=""))

    def attach(self, router: str, network: str, ip: str | Iterable[str]) -> None:
        """Give a router a vport on a network, named after each other."""
        mac = f"02:aa:00:00:{self.key(router):02x}:{self.key(network):02x}"
        self.vport(f"{router}/{network}", mac=mac, ip=ip)
        self.vport(f"{network}/{router}")
        self.link(f"{router}/{network}", f"{network}/{router}")

    def connect(self, one: str, ip_one: str, other: str, ip_other: str) -> None:
        """Link two routers by a pair of vports named after each other."""
        pairs = ((one, other, ip_one), (other, one, ip_other))
        for router, peer, ip in pairs:
            mac = f"02:bb:00:00:{self.key(router):02x}:{self.key(peer):02x}"
            self.vport(f"{router}/{peer}", mac=mac, ip=ip)
        self.link(f"{one}/{other}", f"{other}/{one}")

    def route(self, router: str, to: str, *, via: str = "", **fields: Any) -> Any:
        vport = fields.pop("vport", "")
        return self.put(
            model.Route(
                key=f"route/{router}/{to}/{via}/{vport}",
                router=self.key(router),
                destination=parse_prefix(to),
                gateway=parse_ip(via) if via else 0,
                vport=self.key(vport) if vport else 0,
                **fields,
            )
        )

    def masquerade(self, router: str, source: str, to: str, *, vport: str = "") -> Any:
        return self.put(
            model.Masquerade(
                key=f"masquerade/{router}/{source}",
                router=self.key(router),
                source=parse_prefix(source),
                addresses=(parse_ip(to),),
                vport=self.key(vport) if vport else 0,
            )
        )

    def dnat(self, router: str, address: str, to: str, **fields: Any) -> Any:
        return self.put(
            model.Dnat(
                key=f"dnat/{router}/{address}/{fields.get('ports')}",
                router=self.key(router),
                address=parse_ip(address),
                to_address=parse_ip(to),
                **fields,
            )
        )

    def floating(self, router: str, address: str, to: str) -> Any:
        return self.put(
            model.FloatingIp(
                key=f"floating/{address}",
                router=self.key(router),
                address=parse_ip(address),
                to_address=parse_ip(to),
            )
        )

    def balancer(
        self,
        name: str,
        device: str,
        vips: Iterable[str],
        members: Iterable[str | tuple[str, int]],
        *,
        monitor: model.HealthMonitor | None = None,
        **pool: Any,
    ) -> model.Pool:
        """Add a load balancer with one pool.

        VIPs read like "203.0.113.80:80/6" or "203.0.113.80"; members like
        "10.0.1.2:8080", or that with a weight beside it.
        """
        key = f"pool/{name}"
        self.put(model.Balancer(f"balancer/{name}", name, self.key(device)))
        for text in vips:
            endpoint, _, proto = text.partition("/")
            address, port = _endpoint(endpoint)
            vip = f"vip/{name}/{text}"
            ip_proto = int(proto or 0)
            row = model.Vip(vip, f"balancer/{name}", address, key, ip_proto, port)
            self.put(row)
        for member in members:
            text, weight = (member, 1) if isinstance(member, str) else member
            self.member(name, text, weight)
        if monitor is not None:
            self.put(replace(monitor, key=f"monitor/{name}", pool=key))
        return self.put(model.Pool(key, name, **pool))

    def member(
        self, pool: str, text: str, weight: int = 1, *, up: bool = True
    ) -> model.PoolMember:
        """Add a member to a pool; the key is `member/POOL/TEXT`."""
        key = f"member/{pool}/{text}"
        address, port = _endpoint(text)
        row = model.PoolMember(key, f"pool/{pool}", address, port, weight, up)
        return self.put(row)

    def chain(self, name: str, *rules: model.Rule, accept: bool = True) -> str:
        self.put(model.Chain(name, name, rules, accept=accept))
        return name

    def ingress_set(self, name: str, *vports: str) -> Any:
        keys = frozenset(self.key(vport) for vport in vports)
        return self.put(model.IngressSet(name, name, keys))

    def lease(self, router: str, address: str, block: int, host: str) -> Any:
        return self.put(
            model.Lease(
                f"lease/{router}/{address}/{block}",
                self.key(router),
                parse_ip(address),
                block,
                self.key(host),
            )
        )


def cloud(*, filters: bool = True) -> Builder:
    """The main job's topology: two gateways, two hosts with VMs, two routers.

    node1 and node4 hold the provider router's uplinks (one ingress set); node2 has vm2,
    node3 has vm3, both on network `web` behind router `tenant`.
    """
    b = Builder()
    for number in (1, 2, 3, 4):
        b.host(f"node{number}", f"172.31.0.{number}")
    b.network("web")
    b.router("tenant")
    b.router("provider")
    egress = ""
    if filters:
        egress = b.chain(
            "to-vm",
            model.Rule(
                model.RuleAction.ACCEPT,
                ct_states=model.CT_ESTABLISHED | model.CT_RELATED,
            ),
            model.Rule(
                model.RuleAction.ACCEPT, ip_proto=6, destination_ports=((80, 80),)
            ),
            accept=False,
        )
    for number in (2, 3):
        b.vport(
            f"web/vm{number}",
            host=f"node{number}",
            mac=f"02:00:00:00:00:0{number}",
            ip=f"10.0.1.{number}",
            egress_chain=egress,
        )
    b.attach("tenant", "web", "10.0.1.1/24")
    b.connect("tenant", "100.64.0.2/30", "provider", "100.64.0.1/30")
    for number in (1, 4):
        b.vport(
            f"provider/uplink{number}",
            host=f"node{number}",
            mac=f"02:cc:00:00:00:0{number}",
            ip=f"192.0.2.{number * 4 - 2}/30",
        )
        b.route("provider", "0.0.0.0/0", via=f"192.0.2.{number * 4 - 3}")
        b.put(
            model.Neighbor(
                f"neighbor/{number}",
                b.key("provider"),
                parse_ip(f"192.0.2.{number * 4 - 3}"),
                parse_mac(f"02:ff:00:00:00:0{number}"),
            )
        )
    b.route("tenant", "0.0.0.0/0", via="100.64.0.1")
    b.route("provider", "203.0.113.0/24", via="100.64.0.2")
    b.masquerade("tenant", "10.0.0.0/16", "203.0.113.10", vport="tenant/provider")
    b.dnat(
        "tenant",
        "203.0.113.20",
        "10.0.1.3",
        ip_proto=6,
        ports=(8080, 8080),
        to_port=80,
    )
    b.ingress_set("uplinks", "provider/uplink1", "provider/uplink4")
    return b
