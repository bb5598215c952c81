# SPDX-License-Identifier: Apache-2.0
"""The section `balancers`: what it may say, and that it comes back as it was."""

from __future__ import annotations

import pytest
import yaml

from midoryu.errors import TopologyError
from midoryu.nsdb.export import topology
from midoryu.nsdb.topology_file import parse

DEVICES = "networks: {web: {}}\nrouters: {r: {ports: {web: {network: web}}}}\n"


def balancer(text: str) -> str:
    return f"{DEVICES}balancers: {{one: {{{text}}}}}"


@pytest.mark.parametrize(
    "text",
    [
        "router: r, vips: ['203.0.113.80:80/tcp'], members: ['10.0.0.1:80']",
        "network: web, vips: ['[fd00::80]:53/udp', '[fd00::80]:53/sctp'], "
        "members: ['fd00::1', '[fd00::2]:53']",
        "router: r, vips: 203.0.113.80, up: false, affinity: 300, on_remove: end, "
        "on_down: end, no_member: drop",
        "router: r, vips: 203.0.113.80, members: "
        "[{address: '10.0.0.1:8080', weight: 0}, {address: 10.0.0.2, up: false}]",
        "router: r, vips: 203.0.113.80, monitor: icmp",
        "router: r, vips: 203.0.113.80, monitor: {type: udp, port: 9, interval: 0.5}",
        "router: r, vips: 203.0.113.80, monitor: {http: /health, codes: [200-204, 301],"
        " interval: 2, timeout: 1, rise: 3, fall: 5}",
    ],
)
def test_what_a_file_said_is_written_and_read_as_the_same(text: str) -> None:
    items = parse(balancer(text), "f.yaml")

    written = yaml.safe_dump(topology(items.values()))

    assert parse(written, "g.yaml") == items


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("vips: 203.0.113.80", "needs `router` or `network`"),
        ("router: r, network: web, vips: 203.0.113.80", "and not both"),
        ("router: r", "needs `vips`"),
        ("router: x, vips: 203.0.113.80", "there is no router 'x'"),
        ("router: r, vips: '203.0.113.80:80'", "a port needs a protocol"),
        ("router: r, vips: '203.0.113.80:80-90/tcp'", "a range of ports"),
        ("router: r, vips: 203.0.113.80, members: 'fd00::1'", "this address family"),
        ("router: r, vips: 203.0.113.80, members: '10.0.0.1:1/tcp'", "belongs to the"),
        ("router: r, vips: 203.0.113.80, members: [{weight: 1}]", "needs `address`"),
        ("router: r, vips: 203.0.113.80, members: [10.0.0.1, 10.0.0.1]", "there twice"),
        ("router: r, vips: 203.0.113.80, on_remove: stay", "is not one of keep"),
        ("router: r, vips: 203.0.113.80, monitor: sip", "is not one of tcp"),
        ("router: r, vips: 203.0.113.80, monitor: {http: x}", "no path as in"),
        ("router: r, vips: 203.0.113.80, monitor: {codes: 42}", "codes are 100-599"),
        ("router: r, vips: 203.0.113.80, monitor: {interval: 0}", "0.1 to 3600"),
        ("router: r, vips: 203.0.113.80, affinty: 3", "did you mean 'affinity'"),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(balancer(text), "f.yaml")

    assert reason in str(caught.value)
    assert str(caught.value).startswith("f.yaml:3:")


def two(first: str, second: str) -> str:
    return f"{DEVICES}balancers: {{one: {{{first}}}, two: {{{second}}}}}"


@pytest.mark.parametrize("vip", ["'203.0.113.80:80/tcp'", "203.0.113.80"])
def test_a_vip_that_two_balancers_of_a_device_claim_is_refused(vip: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(two(f"router: r, vips: {vip}", f"router: r, vips: {vip}"), "f.yaml")

    assert "is a VIP of balancers.one" in str(caught.value)
    assert str(caught.value).startswith("f.yaml:3:")


def test_one_address_may_be_a_vip_of_two_devices_or_by_two_ports() -> None:
    one = "'203.0.113.80:80/tcp'"
    other = "'203.0.113.80:81/tcp'"

    parse(two(f"router: r, vips: {one}", f"network: web, vips: {one}"), "f.yaml")
    parse(two(f"router: r, vips: {one}", f"router: r, vips: {other}"), "f.yaml")
