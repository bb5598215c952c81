# SPDX-License-Identifier: Apache-2.0
"""Subnets and ports' services in a topology file, and out again."""

from __future__ import annotations

import pytest
import yaml

from midoryu.errors import TopologyError
from midoryu.nsdb.export import topology
from midoryu.nsdb.topology_file import parse

WHOLE = """
networks:
  web:
    subnets:
      10.0.1.0/24:
        gateway: 10.0.1.1
        dns: [192.0.2.53, 10.0.1.2]
        domain: web.example
        search: [web.example, example]
        ntp: [10.0.1.9]
        routes: [{to: 10.9.0.0/16, via: 10.0.1.254}]
        mtu: 1400
        dhcp: {lease: 600, server: 10.0.1.3, boot_file: x, boot_server: 10.0.1.4,
               options: {252: "http://x/", mtu: 1300}}
        resolver: 10.0.1.2
        forward: [192.0.2.53]
      "fd00::/64": {gateway: "fd00::1", ra: slaac}
      "fd01::/64": {ra: {mode: dhcpv6-stateful, min_interval: 3, max_interval: 4,
                    lifetime: 0, preference: high, valid: 9, preferred: 8}}
    ports:
      a: {mac: "02:00:00:00:00:01", ip: 10.0.1.11, hostname: alpha,
          dhcp_options: {tftp-server: 10.0.1.9}, dhcp6_options: {59: "tftp://x"}}
      meta: {metadata: true}
"""


def test_export_says_what_the_file_said() -> None:
    items = parse(WHOLE, "t.yaml")

    text = yaml.safe_dump(topology(items.values()))

    assert parse(text, "again.yaml") == items
    assert items["Subnet", "web 10.0.1.0/24"].columns["dns"] == "192.0.2.53 10.0.1.2"
    assert items["Port", "web/meta"].columns["mac"] is not None


@pytest.mark.parametrize(
    ("subnets", "reason"),
    [
        ("10.0.1.0/24: {dhcp: true}", "needs `server`, or a `gateway` beside it"),
        ("10.0.1.0/24: {ra: slaac}", "router advertisements are for IPv6"),
        ("'fd00::/60': {ra: slaac}", "hosts make addresses of a /64 only"),
        ("10.0.1.0/24: {gateway: 'fd00::1'}", "of another address family"),
        ("10.0.1.0/24: {resolver: 10.0.2.1}", "is not in 10.0.1.0/24"),
        ("10.0.1.0/24: {forward: 10.0.2.1}", "needs `resolver` beside it"),
        ("10.0.1.1/24: {}", "host bits set"),
        ("{10.0.1.0/24: {}, 10.0.0.0/16: {}}", "overlaps"),
        ("10.0.1.0/24: {gateway: 10.0.1.1, dhcp: {options: {53: 1}}}", "cannot be set"),
        ("10.0.1.0/24: {domain: a..b}", "is not a domain name"),
        ("10.0.1.0/24: {routes: [{to: 10.9.0.0/16}]}", "needs `to` and `via`"),
    ],
)
def test_mistake_is_told_with_its_reason(subnets: str, reason: str) -> None:
    body = subnets if subnets.startswith("{") else f"{{{subnets}}}"

    with pytest.raises(TopologyError, match="t.yaml:1:.*networks.n.subnets") as problem:
        parse(f"networks: {{n: {{subnets: {body}}}}}", "t.yaml")

    assert reason in str(problem.value)


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ("{metadata: true, host: h}", "is on every host"),
        ("{hostname: a..b}", "is not a domain name"),
        ("{hostname: 'a b'}", "is not a domain name"),
        ("{hostname: a-}", "is not a domain name"),
        ("{dhcp_options: {nonsense: 1}}", "is no DHCP option"),
    ],
)
def test_port_mistake_is_told_too(port: str, reason: str) -> None:
    with pytest.raises(TopologyError) as problem:
        parse(f"networks: {{n: {{ports: {{p: {port}}}}}}}", "t.yaml")

    assert reason in str(problem.value)
