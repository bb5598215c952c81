# SPDX-License-Identifier: Apache-2.0
"""What routers of a network say about themselves."""

from __future__ import annotations

import pytest

from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.simulation.advertise import advertisements
from midoryu.topology.service import Advertising, Preference, RaMode
from tests.helpers.services import served, services_of


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        (RaMode.SLAAC, (False, False, True)),
        (RaMode.STATEFUL, (True, False, False)),
        (RaMode.STATELESS, (False, True, True)),
    ],
    ids=["slaac", "stateful", "stateless"],
)
def test_mode_is_told_in_the_flags(
    mode: RaMode, flags: tuple[bool, bool, bool]
) -> None:
    (says,) = advertisements(services_of(served(v6={"advertising": Advertising(mode)})))

    assert (says.managed, says.other, says.prefixes[0].autonomous) == flags
    assert says.prefixes[0].on_link


def test_gateway_of_the_topology_speaks_for_itself() -> None:
    b = served(v6={"advertising": Advertising(RaMode.SLAAC, preference=Preference.LOW)})

    (says,) = advertisements(services_of(b))

    router = b.topology().vport(b.key("r/web"))
    assert router is not None
    assert (says.mac, says.lifetime_s, says.preference) == (router.mac, 1800, 3)
    assert says.dns == (parse_ip("fd00:1::2"),)
    assert says.search == ("web.example",)


def test_gateway_that_is_nowhere_is_no_default_router() -> None:
    b = served(v6={"gateway": parse_ip("fd00:1::ffff")})

    (says,) = advertisements(services_of(b))

    assert (says.mac, says.lifetime_s) == (services_of(b).mac, 0)


def test_only_routes_by_the_gateway_are_told() -> None:
    by_gateway = parse_prefix("fd00:8::/48"), parse_ip("fd00:1::1")
    by_other = parse_prefix("fd00:9::/48"), parse_ip("fd00:1::9")

    (says,) = advertisements(services_of(served(v6={"routes": (by_gateway, by_other)})))

    assert says.routes == (parse_prefix("fd00:8::/48"),)


def test_mtu_is_the_subnets_or_the_networks() -> None:
    assert advertisements(services_of(served(v6={"mtu": 1300})))[0].mtu == 1300
    services = services_of(served())
    assert advertisements(services)[0].mtu == services.mtu > 1280
