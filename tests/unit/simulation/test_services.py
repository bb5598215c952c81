# SPDX-License-Identifier: Apache-2.0
"""Which packets a network takes for itself, and which pass it."""

from __future__ import annotations

import pytest

from midoryu.packet import build, field, router_advert
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.packet.checksum import ones_sum
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Consumed, Drop, Flood, Forward, Reason
from midoryu.topology.model import Rule, RuleAction
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.services import ALL, MAC, NOBODY, enter, served, services_of, udp

PROXY = "02:00:00:00:0a:fe"


def solicitation(source: str = "fe80::ff:fe00:111") -> bytes:
    return build.icmpv6_frame(
        mac_src=MAC,
        mac_dst=0x3333_0000_0002,
        ip_src=parse_ip(source),
        ip_dst=0xFF02 << 112 | 2,
        message=bytes((133, 0, 0, 0, 0, 0, 0, 0)),
        ttl=255,
    )


def with_proxy() -> Builder:
    b = served()
    b.vport("web/meta", mac=PROXY, metadata=True)
    return b


def tcp(destination: str, port: int, mac: int) -> bytes:
    data = frames.tcp("10.0.1.11", destination, dport=port)
    return mac.to_bytes(6, "big") + MAC.to_bytes(6, "big") + data[12:]


@pytest.mark.parametrize("source", ["fe80::ff:fe00:111", "::"])
def test_solicitation_is_answered_to_its_sender_alone(source: str) -> None:
    simulation = enter(served(), solicitation(source))

    assert simulation.outcome == Consumed(Reason.ANSWERED)
    headers = decode(simulation.emissions[0].frame).headers
    assert (headers.eth_dst, headers.l4_src) == (MAC, 134)
    assert headers.ip_dst == parse_ip(source if source != "::" else "ff02::1")


def test_garbage_for_a_server_is_dropped_and_installs_no_flow() -> None:
    frame = udp(b"garbage", ports=(68, 67), source=NOBODY, destination=ALL)

    simulation = enter(served(), frame)

    assert simulation.outcome == Drop(Reason.BAD_REQUEST)
    assert simulation.fields & field.PAYLOAD


def test_filter_keeps_nobody_from_an_address_but_from_everything_else() -> None:
    b = served()
    chain = b.chain("none", Rule(RuleAction.DROP))
    b.vport(
        "web/a",
        host="n1",
        mac="02:00:00:00:01:11",
        ip=("10.0.1.11/24", "fd00:1::11/64"),
        ingress_chain=chain,
    )

    assert enter(b, solicitation()).outcome == Consumed(Reason.ANSWERED)
    frame = udp(b"", ports=(9, 9), source="10.0.1.11", destination="10.0.1.12")
    assert enter(b, frame).outcome == Drop(Reason.FILTERED)


def test_other_traffic_reads_no_more_than_its_destination() -> None:
    mac = parse_mac("02:00:00:00:01:12")
    ends = {"source": "10.0.1.11", "destination": "10.0.1.12", "mac_dst": mac}
    b = served(port_security=False)

    simulation = enter(b, udp(b"", ports=(9, 53), **ends))  # type: ignore[arg-type]

    assert simulation.outcome == Forward(b.key("web/b"))
    assert not simulation.fields & (field.L4 | field.PAYLOAD)


@pytest.mark.parametrize(
    ("source", "destination", "port"),
    [(NOBODY, ALL, 67), ("10.0.1.11", "10.0.1.2", 53)],
)
def test_fragment_installs_no_flow_that_takes_whole_requests(
    source: str, destination: str, port: int
) -> None:
    mac = services_of(served()).mac
    frame = bytearray(
        udp(b"", ports=(68, port), source=source, destination=destination, mac_dst=mac)
    )
    frame[20] = 0x20  # more fragments follow
    frame[24:26] = bytes(2)
    total = ones_sum(bytes(frame[14:34]))
    frame[24:26] = (0xFFFF - total).to_bytes(2, "big")

    simulation = enter(served(), bytes(frame))

    assert simulation.emissions == []
    assert simulation.fields & field.IP_FRAG


def test_tcp_to_the_resolver_is_reset() -> None:
    b = served()

    simulation = enter(b, tcp("10.0.1.2", 53, services_of(b).mac))

    answer = decode(simulation.emissions[0].frame)
    assert answer.tcp_flags & 4
    assert answer.headers.ip_src == parse_ip("10.0.1.2")


@pytest.mark.parametrize("to_router", [True, False], ids=["by router", "on link"])
def test_metadata_request_goes_to_the_proxy(to_router: bool) -> None:
    b = with_proxy()
    router = b.topology().vport(b.key("r/web"))
    assert router is not None
    mac = router.mac if to_router else parse_mac(PROXY)

    simulation = enter(b, tcp("169.254.169.254", 80, mac))

    assert simulation.outcome == Forward(b.key("web/meta"))
    assert simulation.headers.eth_dst == parse_mac(PROXY)
    assert simulation.headers.ip_src == parse_ip("10.0.1.11")


@pytest.mark.parametrize("source", [0, parse_ip("fe80::a9fe:a9fe")])
def test_proxies_of_two_hosts_do_not_find_each_other(source: int) -> None:
    frame = build.neighbor_solicitation(
        sender_mac=parse_mac(PROXY),
        sender_ip=source,
        target_ip=parse_ip("fe80::a9fe:a9fe"),
    )

    assert enter(with_proxy(), frame, "web/meta").outcome == Drop(Reason.LOCAL)


def test_other_ports_of_the_metadata_address_are_closed() -> None:
    simulation = enter(with_proxy(), tcp("169.254.169.254", 22, parse_mac(PROXY)))

    assert simulation.outcome == Drop(Reason.NO_ROUTE)


def test_address_of_the_proxy_is_answered_for() -> None:
    target = parse_ip("169.254.169.254")
    ends = {"sender_mac": MAC, "sender_ip": parse_ip("10.0.1.11"), "target_ip": target}

    simulation = enter(with_proxy(), build.arp_request(**ends))

    answer = decode(simulation.emissions[0].frame)
    assert (answer.headers.ip_src, answer.arp_sha) == (target, parse_mac(PROXY))


@pytest.mark.parametrize(
    ("ports", "ip"),
    [
        ((67, 68), ("10.0.1.11", "10.0.1.12")),
        ((547, 546), ("fd00:1::11", "fd00:1::12")),
    ],
)
@pytest.mark.parametrize("secure", [True, False], ids=["secure", "free"])
def test_rogue_server_is_heard_without_port_security_only(
    ports: tuple[int, int], ip: tuple[str, str], secure: bool
) -> None:
    frame = udp(b"", ports=ports, source=ip[0], destination=ip[1])

    outcome = enter(served(port_security=secure), frame).outcome

    if secure:
        assert outcome == Drop(Reason.PORT_SECURITY)
    else:
        assert isinstance(outcome, Flood)


@pytest.mark.parametrize("secure", [True, False], ids=["secure", "free"])
def test_rogue_router_is_heard_without_port_security_only(secure: bool) -> None:
    says = router_advert.Advertisement(mac=MAC, lifetime_s=9)
    frame = router_advert.frame(
        says, mac_dst=0x3333_0000_0001, ip_dst=0xFF02 << 112 | 1
    )

    outcome = enter(served(port_security=secure), frame).outcome

    if secure:
        assert outcome == Drop(Reason.PORT_SECURITY)
    else:
        assert isinstance(outcome, Flood)
