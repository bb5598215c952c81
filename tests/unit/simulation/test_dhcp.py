# SPDX-License-Identifier: Apache-2.0
"""What the DHCPv4 server of a network says."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import dhcp4
from midoryu.packet.address import MAC_BROADCAST, format_ip, parse_ip, parse_prefix
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Consumed, Flood, Reason, Simulation
from tests.helpers.builder import Builder
from tests.helpers.services import ALL, MAC, NOBODY, enter, payload_of, served, udp

SERVER = parse_ip("10.0.1.1") & 0xFFFF_FFFF
OWN = parse_ip("10.0.1.11") & 0xFFFF_FFFF
WRONG = parse_ip("10.0.1.99") & 0xFFFF_FFFF


def ask(
    b: Builder, kind: int, *, source: str = NOBODY, mac: int = MAC, **fields: Any
) -> Simulation:
    options = {53: bytes((kind,)), **fields.pop("options", {})}
    request = dhcp4.Message(dhcp4.BOOT_REQUEST, 7, mac, options=options, **fields)
    data = dhcp4.encode(request)
    return enter(b, udp(data, ports=(68, 67), source=source, destination=ALL))


def told(simulation: Simulation) -> dhcp4.Message:
    assert simulation.outcome == Consumed(Reason.ANSWERED)
    return dhcp4.decode(payload_of(simulation))


def address(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_discover_is_offered_the_vports_own_address() -> None:
    simulation = ask(served(), dhcp4.DISCOVER)
    offer = told(simulation)

    assert (offer.type, offer.yours, offer.xid) == (dhcp4.OFFER, OWN, 7)
    assert offer.options[dhcp4.SERVER_IDENTIFIER] == address(SERVER)
    assert offer.number(dhcp4.LEASE_TIME, 4) == 600
    assert offer.number(dhcp4.RENEWAL_TIME, 4) == 300
    assert offer.options[dhcp4.SUBNET_MASK] == b"\xff\xff\xff\0"
    assert offer.options[dhcp4.DNS_SERVERS] == bytes((10, 0, 1, 2))
    assert offer.options[dhcp4.HOST_NAME] == b"a"
    headers = decode(simulation.emissions[0].frame).headers
    assert (headers.eth_dst, format_ip(headers.ip_dst)) == (MAC, "10.0.1.11")


def test_client_that_cannot_hear_unicast_gets_a_broadcast() -> None:
    simulation = ask(served(), dhcp4.DISCOVER, flags=dhcp4.BROADCAST_FLAG)

    headers = decode(simulation.emissions[0].frame).headers
    assert (headers.eth_dst, format_ip(headers.ip_dst)) == (MAC_BROADCAST, ALL)


@pytest.mark.parametrize(
    ("fields", "source", "kind"),
    [
        ({"options": {50: address(OWN), 54: address(SERVER)}}, NOBODY, dhcp4.ACK),
        ({"options": {50: address(WRONG), 54: address(SERVER)}}, NOBODY, dhcp4.NAK),
        ({"options": {50: address(OWN)}}, NOBODY, dhcp4.ACK),
        ({"options": {50: address(WRONG)}}, NOBODY, dhcp4.NAK),
        ({"client": OWN}, "10.0.1.11", dhcp4.ACK),
        ({"client": WRONG}, NOBODY, dhcp4.NAK),
    ],
    ids=["selecting", "wrong", "rebooting", "rebooting elsewhere", "renewing", "stale"],
)
def test_request_is_acknowledged_for_the_right_address_only(
    fields: dict[str, Any], source: str, kind: int
) -> None:
    simulation = ask(served(), dhcp4.REQUEST, source=source, **fields)

    assert told(simulation).type == kind
    if kind == dhcp4.NAK:
        assert decode(simulation.emissions[0].frame).headers.eth_dst == MAC_BROADCAST


def test_request_to_another_server_goes_on_to_it() -> None:
    options = {50: address(OWN), 54: address(WRONG)}

    simulation = ask(served(), dhcp4.REQUEST, options=options)

    assert isinstance(simulation.outcome, Flood)
    assert simulation.emissions == []


@pytest.mark.parametrize("kind", [dhcp4.DECLINE, dhcp4.RELEASE])
def test_what_needs_no_answer_gets_none(kind: int) -> None:
    simulation = ask(served(), kind, options={54: address(SERVER)})

    assert simulation.outcome == Consumed(Reason.ANSWERED)
    assert simulation.emissions == []


def test_inform_is_told_everything_but_a_lease() -> None:
    simulation = ask(served(), dhcp4.INFORM, source="10.0.1.11", client=OWN)
    message = told(simulation)

    assert (message.type, message.yours) == (dhcp4.ACK, 0)
    assert dhcp4.LEASE_TIME not in message.options
    assert dhcp4.ROUTER in message.options
    assert (
        format_ip(decode(simulation.emissions[0].frame).headers.ip_dst) == "10.0.1.11"
    )


def test_routes_name_the_gateway_too() -> None:
    routes = ((parse_prefix("10.9.0.0/16"), parse_ip("10.0.1.254")),)

    message = told(ask(served({"routes": routes}), dhcp4.DISCOVER))

    wanted = bytes((16, 10, 9, 10, 0, 1, 254, 0, 10, 0, 1, 1))
    assert message.options[dhcp4.CLASSLESS_ROUTES] == wanted


def test_ports_options_win_over_the_subnets() -> None:
    options = {"options": ((67, b"subnet"), (252, b"x"))}

    b = served(options, dhcp_options=((67, b"port"),), hostname="alpha")
    message = told(ask(b, dhcp4.DISCOVER))

    assert (message.options[67], message.options[252]) == (b"port", b"x")
    assert message.boot_file == b"port"
    assert message.options[dhcp4.HOST_NAME] == b"alpha"


def test_vport_without_an_address_there_is_left_to_others() -> None:
    b = served()
    b.vport("web/c", host="n1", mac="02:00:00:00:01:11", ip=("192.0.2.1/24",))
    request = dhcp4.Message(dhcp4.BOOT_REQUEST, 7, MAC, options={53: b"\x01"})
    frame = udp(dhcp4.encode(request), ports=(68, 67), source=NOBODY, destination=ALL)

    assert isinstance(enter(b, frame, "web/c").outcome, Flood)


def test_client_behind_a_vport_is_left_to_others() -> None:
    assert isinstance(ask(served(), dhcp4.DISCOVER, mac=MAC + 1).outcome, Flood)
