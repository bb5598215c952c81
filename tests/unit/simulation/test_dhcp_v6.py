# SPDX-License-Identifier: Apache-2.0
"""What the DHCPv6 server of a network says."""

from __future__ import annotations

import pytest

from midoryu.packet import dhcp6
from midoryu.packet.address import format_ip, link_local_of, parse_ip
from midoryu.simulation.outcome import Consumed, Drop, Flood, Reason, Simulation
from midoryu.topology.service import Advertising, RaMode
from tests.helpers.builder import Builder
from tests.helpers.services import MAC, enter, payload_of, served, services_of, udp

OWN, WRONG = parse_ip("fd00:1::11"), parse_ip("fd00:1::99")
CLIENT = (dhcp6.CLIENT_ID, dhcp6.link_layer_duid(MAC))


def ia(*addresses: int) -> tuple[int, bytes]:
    pairs = [(address, 1) for address in addresses]
    return dhcp6.IA_NA, dhcp6.encode_association(3, pairs, lease_s=1, status=0)


def server(b: Builder) -> tuple[int, bytes]:
    return dhcp6.SERVER_ID, dhcp6.link_layer_duid(services_of(b).mac)


def ask(b: Builder, kind: int, *options: tuple[int, bytes]) -> Simulation:
    data = dhcp6.encode(dhcp6.Message(kind, 9, options))
    source = format_ip(link_local_of(MAC))
    frame = udp(
        data,
        ports=(546, 547),
        source=source,
        destination="ff02::1:2",
        mac_dst=0x3333_0001_0002,
    )
    return enter(b, frame)


def told(simulation: Simulation) -> dhcp6.Message:
    assert simulation.outcome == Consumed(Reason.ANSWERED)
    return dhcp6.decode(payload_of(simulation))


def test_solicit_is_advertised_the_vports_own_address() -> None:
    b = served()

    message = told(ask(b, dhcp6.SOLICIT, CLIENT, ia()))

    assert message.type == dhcp6.ADVERTISE
    assert message.associations()[0].addresses == (OWN,)
    assert message.get(dhcp6.SERVER_ID) == server(b)[1]
    assert message.get(dhcp6.DNS_SERVERS) == parse_ip("fd00:1::2").to_bytes(16, "big")
    assert message.get(dhcp6.DOMAIN_LIST) == b"\x03web\x07example\0"


def test_rapid_commit_is_replied_to_at_once() -> None:
    message = told(ask(served(), dhcp6.SOLICIT, CLIENT, (14, b""), ia()))

    assert message.type == dhcp6.REPLY
    assert message.get(dhcp6.RAPID_COMMIT) == b""


@pytest.mark.parametrize("kind", [dhcp6.SOLICIT, dhcp6.REQUEST])
def test_no_prefix_and_no_temporary_address_is_given(kind: int) -> None:
    b = served()
    identity = () if kind == dhcp6.SOLICIT else (server(b),)
    prefix = (dhcp6.IA_PD, b"\0\0\0\7" + bytes(8))
    temporary = (dhcp6.IA_TA, b"\0\0\0\x08")

    message = told(ask(b, kind, CLIENT, *identity, ia(), prefix, temporary))

    assert message.associations()[0].addresses == (OWN,)
    refused = bytes.fromhex("00000007 0000000000000000 000d 0002 0006")
    assert message.get(dhcp6.IA_PD) == refused
    assert message.get(dhcp6.IA_TA) == bytes.fromhex("00000008 000d 0002 0002")


@pytest.mark.parametrize("kind", [dhcp6.REQUEST, dhcp6.RENEW, dhcp6.REBIND])
def test_wrong_address_is_taken_away(kind: int) -> None:
    b = served()
    identity = () if kind == dhcp6.REBIND else (server(b),)

    message = told(ask(b, kind, CLIENT, *identity, ia(WRONG)))

    assert message.type == dhcp6.REPLY
    assert message.associations()[0].addresses == (OWN, WRONG)
    data = message.get(dhcp6.IA_NA) or b""
    assert data[-8:] == bytes(8), "lifetimes of the wrong one are 0"


def test_second_association_gets_no_address() -> None:
    other = dhcp6.IA_NA, dhcp6.encode_association(4, (), lease_s=1, status=0)

    message = told(ask(served(), dhcp6.SOLICIT, CLIENT, ia(), other))

    assert [one.addresses for one in message.associations()] == [(OWN,), ()]


@pytest.mark.parametrize(
    ("address", "status"),
    [("fd00:1::77", dhcp6.SUCCESS), ("fd00:5::1", dhcp6.NOT_ON_LINK)],
)
def test_confirm_tells_whether_addresses_fit_the_link(
    address: str, status: int
) -> None:
    message = told(ask(served(), dhcp6.CONFIRM, CLIENT, ia(parse_ip(address))))

    assert message.get(dhcp6.STATUS) == dhcp6.encode_status(status)


@pytest.mark.parametrize("kind", [dhcp6.RELEASE, dhcp6.DECLINE])
def test_release_is_confirmed(kind: int) -> None:
    b = served()

    message = told(ask(b, kind, CLIENT, server(b), ia(OWN)))

    assert message.get(dhcp6.STATUS) == dhcp6.encode_status(dhcp6.SUCCESS)


def test_stateless_subnet_tells_what_is_asked_but_gives_no_address() -> None:
    b = served(v6={"advertising": Advertising(RaMode.STATELESS)})

    message = told(ask(b, dhcp6.INFORMATION_REQUEST))

    assert message.get(dhcp6.DNS_SERVERS) is not None
    assert isinstance(ask(b, dhcp6.SOLICIT, CLIENT, ia()).outcome, Flood)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (dhcp6.SOLICIT, (ia(),)),
        (dhcp6.REQUEST, (CLIENT, ia())),
        (dhcp6.REPLY, (CLIENT,)),
    ],
    ids=["no client", "no server", "a server's message"],
)
def test_what_a_server_must_discard_is_dropped(
    kind: int, options: tuple[tuple[int, bytes], ...]
) -> None:
    assert ask(served(), kind, *options).outcome == Drop(Reason.BAD_REQUEST)


def test_message_to_another_server_goes_on_to_it() -> None:
    other = dhcp6.SERVER_ID, dhcp6.link_layer_duid(99)

    simulation = ask(served(), dhcp6.REQUEST, CLIENT, other, ia())

    assert isinstance(simulation.outcome, Flood)
