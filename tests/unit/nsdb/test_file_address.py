# SPDX-License-Identifier: Apache-2.0
"""Addresses of a topology file that contradict each other: what the message says."""

from __future__ import annotations

import pytest

from midoryu.errors import TopologyError
from midoryu.nsdb.topology_file import parse

WORLD = """
networks:
  web:
    subnets:
      10.0.1.0/24: {{gateway: {gateway}}}
      "fd00:1::/64": {{gateway: "fe80::1"}}
    ports:
      vm1: {{mac: "02:00:00:00:00:01", ip: [{vm1}, "fd00:1::11"]}}
      vm2: {{mac: "02:00:00:00:00:02", ip: 10.0.1.12}}
  out:
    ports:
      station: {{mac: "02:00:00:00:00:09", ip: 203.0.113.9}}
      up: {{}}
routers:
  r:
    ports:
      web: {{network: web, ip: [10.0.1.1/24, "fd00:1::1/64"]}}
      out: {{network: out, ip: 203.0.113.2/24}}
      wan: {{ip: {wan}}}
    routes: [{routes}]
    floating: [{floating}]
balancers:
  shop: {{{device}, vips: ["{vip}"], members: [10.0.1.11], monitor: {{{monitor}}}}}
mirrors: {{m: {{ports: {mirrored}, to: out/station}}}}
"""
FINE = {
    "gateway": "10.0.1.1",
    "vm1": "10.0.1.11",
    "wan": "192.0.2.2/30",
    "routes": "{to: 0.0.0.0/0, via: 192.0.2.1, port: wan}",
    "floating": "{address: 203.0.113.30, to: 10.0.1.11}",
    "device": "router: r",
    "vip": "203.0.113.80:80/tcp",
    "monitor": "type: tcp",
    "mirrored": "[web/vm1]",
}
WRONG = {
    "a gateway outside its subnet": (
        {"gateway": "10.0.2.1"},
        "networks.web.subnets.10.0.1.0/24.gateway: is not in 10.0.1.0/24",
    ),
    "a station outside the subnets": (
        {"vm1": "10.0.3.11"},
        "networks.web.ports.vm1.ip: 10.0.3.11 is in no subnet of web: 10.0.1.0/24",
    ),
    "a subnet of a router twice": (
        {"wan": "10.0.1.200/24"},
        "routers.r.ports.wan.ip: 10.0.1.0/24 overlaps 10.0.1.0/24 of r/web",
    ),
    "a subnet of a router within another one": (
        {"wan": "203.0.113.6/30"},
        "routers.r.ports.wan.ip: 203.0.113.4/30 overlaps 203.0.113.0/24 of r/out",
    ),
    "a next hop beside its port's subnet": (
        {"routes": "{to: 0.0.0.0/0, via: 192.0.2.9, port: wan}"},
        "routers.r.routes[0].via: 192.0.2.9 is in no subnet of r/wan",
    ),
    "a next hop that is the router": (
        {"routes": "{to: 0.0.0.0/0, via: 203.0.113.2}"},
        "routers.r.routes[0].via: 203.0.113.2 is r/out's own address",
    ),
    "a route twice": (
        {
            "routes": "{to: 10.9.0.0/16, via: 192.0.2.1}, "
            "{to: 10.9.0.0/16, via: 192.0.2.1}"
        },
        "routers.r.routes[1]: is there twice",
    ),
    "a route that goes and does not": (
        {
            "routes": "{to: 10.9.0.0/16, via: 192.0.2.1}, "
            "{to: 10.9.0.0/16, reject: true}"
        },
        "routers.r.routes[1]: goes another way than routers.r.routes[0], with the same "
        "metric",
    ),
    "a route to a link's own subnet": (
        {"routes": "{to: 10.0.1.0/24, via: 192.0.2.1}"},
        "routers.r.routes[0]: 10.0.1.0/24 is on the link of r/web",
    ),
    "two floating addresses of one machine": (
        {
            "floating": "{address: 203.0.113.30, to: 10.0.1.11}, "
            "{address: 203.0.113.31, to: 10.0.1.11}"
        },
        "routers.r.floating[1]: 10.0.1.11 has the floating IP 203.0.113.30 already",
    ),
    "a floating address that is the router's": (
        {"floating": "{address: 203.0.113.2, to: 10.0.1.11}"},
        "routers.r.floating[0]: 203.0.113.2 is r/out's own address",
    ),
    "a floating address that a machine has": (
        {"floating": "{address: 203.0.113.9, to: 10.0.1.11}"},
        "routers.r.floating[0]: its address is out/station's already",
    ),
    "a whole VIP that is the router's": (
        {"vip": "203.0.113.2"},
        "balancers.shop.vips[0]: 203.0.113.2 is r/out's own address",
    ),
    "a network's VIP that a machine has": (
        {"device": "network: web", "vip": "10.0.1.12:80/tcp"},
        "balancers.shop.vips[0]: its address is web/vm2's already",
    ),
    "a network's VIP that its router has": (
        {"device": "network: web", "vip": "10.0.1.1:80/tcp"},
        "balancers.shop.vips[0]: its address is r/web's already",
    ),
    "a monitor that waits too long": (
        {"monitor": "type: tcp, interval: 2, timeout: 5"},
        "balancers.shop.monitor.timeout: 5 s is longer than the interval, 2 s",
    ),
    "a mirror of nothing": (
        {"mirrored": "[]"},
        "mirrors.m.ports: names no port to mirror",
    ),
}


def world(**changes: str) -> str:
    return WORLD.format(**{**FINE, **changes})


def test_what_contradicts_nothing_is_read() -> None:
    assert parse(world(), "t.yaml")


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_contradiction_is_told(changes: dict[str, str], message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(world(**changes), "t.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("t.yaml:")


@pytest.mark.parametrize(
    "changes",
    [
        {"vip": "203.0.113.2:80/tcp"},
        {"gateway": "10.0.1.254"},
        {
            "floating": "{address: 203.0.113.30, to: 10.0.1.11}, "
            "{address: 203.0.113.31, to: 10.0.1.12}"
        },
        {
            "routes": "{to: 10.9.0.0/16, via: 192.0.2.1}, "
            "{to: 10.9.0.0/16, reject: true, metric: 9}"
        },
    ],
    ids=["a port of the router", "an own gateway", "two machines", "a last resort"],
)
def test_what_only_looks_alike_is_read(changes: dict[str, str]) -> None:
    assert parse(world(**changes), "t.yaml")


def test_a_short_interval_shortens_the_usual_wait_for_an_answer() -> None:
    items = parse(world(monitor="type: tcp, interval: 0.5"), "t.yaml")
    (monitor,) = [one for one in items.values() if one.table == "Health_Monitor"]
    assert monitor.columns["timeout"] == 500


def test_two_uplinks_may_be_in_one_subnet() -> None:
    ports = "{a: {ip: 192.0.2.2/24}, b: {ip: 192.0.2.3/24}}"
    assert parse(f"routers: {{r: {{ports: {ports}}}}}", "t.yaml")
