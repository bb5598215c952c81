# SPDX-License-Identifier: Apache-2.0
"""An address that several machines share moves with one announcement (VRRP, VIPs).

vm3 at node2 and vm6 at node3 share it; vm8 at node1 talks to it through a router, vm1
beside it on the network.
"""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import build
from midoryu.packet.address import parse_ip, parse_mac, parse_prefix
from tests.helpers import frames
from tests.helpers.fabric import Fabric
from tests.scenarios.test_l2 import EVERYBODY, mac, office

VIRTUAL = "00:00:5e:00:01:07"
IP = {4: "10.0.1.100", 6: "fd00:1::100"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])


def pair(mac_text: str) -> dict[str, Any]:
    own = parse_mac(mac_text) if mac_text else 0
    allowed = tuple((own, parse_prefix(f"{ip}/{n}")) for ip, n in VIPS)
    return {"port_security": True, "allowed": allowed}


VIPS = ((IP[4], 32), (IP[6], 128))


def cloud(virtual_mac: str = "") -> Fabric:
    b = office(vm3=pair(virtual_mac), vm6=pair(virtual_mac))
    b.network("far")
    b.router("r")
    b.vport("far/vm8", host="node1", mac=mac(8), ip=["10.0.2.8", "fd00:2::8"])
    b.attach("r", "web", ["10.0.1.254/24", "fd00:1::254/64"])
    b.attach("r", "far", ["10.0.2.254/24", "fd00:2::254/64"])
    return Fabric(b)


def announcement(mac_text: str, family: int, ip: str = "") -> bytes:
    """Make a gratuitous ARP, or an unsolicited neighbour advertisement."""
    ip = ip or IP[family]
    if family == 4:
        return frames.arp(ip, ip, eth_src=mac_text, eth_dst=EVERYBODY)
    return build.neighbor_advertisement(
        source_mac=parse_mac(mac_text),
        source_ip=parse_ip(ip),
        target_ip=parse_ip(ip),
        destination_mac=0x3333_0000_0001,
        destination_ip=parse_ip("ff02::1"),
        router=False,
        solicited=False,
    )


def from_far(fabric: Fabric, family: int) -> list[str]:
    b = fabric.builder
    router = f"02:aa:00:00:{b.key('r'):02x}:{b.key('far'):02x}"
    source = "10.0.2.8" if family == 4 else "fd00:2::8"
    frame = frames.udp(source, IP[family], eth_src=mac(8), eth_dst=router)
    return sorted(one.vport for one in fabric.send("far/vm8", frame))


@FAMILIES
def test_a_router_on_every_host_follows_an_address_to_another_mac(family: int) -> None:
    fabric = cloud()
    fabric.send("web/vm3", announcement(mac(3), family))
    assert from_far(fabric, family) == from_far(fabric, family) == ["web/vm3"]

    fabric.send("web/vm6", announcement(mac(6), family))
    assert from_far(fabric, family) == from_far(fabric, family) == ["web/vm6"]
    fabric.send("web/vm3", announcement(mac(3), family))
    assert from_far(fabric, family) == ["web/vm3"]


@FAMILIES
def test_a_virtual_mac_takes_its_flows_along(family: int) -> None:
    fabric = cloud(VIRTUAL)

    def beside() -> list[str]:
        source = "10.0.1.1" if family == 4 else "fd00:1::1"
        frame = frames.udp(source, IP[family], eth_src=mac(1), eth_dst=VIRTUAL)
        return sorted(one.vport for one in fabric.send("web/vm1", frame))

    for master in ("web/vm3", "web/vm6", "web/vm3"):
        fabric.send(master, announcement(VIRTUAL, family))
        assert beside() == beside() == [master]
        assert from_far(fabric, family) == from_far(fabric, family) == [master]


@FAMILIES
def test_who_may_not_have_the_address_cannot_take_it(family: int) -> None:
    fabric = cloud()
    fabric.send("web/vm3", announcement(mac(3), family))
    other = "10.0.1.101" if family == 4 else "fd00:1::101"

    assert fabric.send("web/vm6", announcement(VIRTUAL, family)) == []
    assert fabric.send("web/vm6", announcement(mac(6), family, other)) == []
    assert from_far(fabric, family) == ["web/vm3"]
