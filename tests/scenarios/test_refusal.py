# SPDX-License-Identifier: Apache-2.0
"""Refusals behind a translation are told in the words of the one who called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.packet import protocol
from midoryu.packet.address import format_ip
from midoryu.packet.codec import decode
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, V4, Family
from tests.scenarios.test_balancer import Shop, only, shop, tuple_of


def rejecting(family: Family, device: str, *paths: str) -> Shop:
    """Let the vports at these paths reject all that goes out of them."""
    b = shop(family, device)
    b.dnat("tenant", "203.0.113.20", "10.0.2.14", ports=(9007, 9007), to_port=7007)
    b.route("provider", "203.0.113.20/32", via="100.64.0.2")
    no = b.chain("no", model.Rule(model.RuleAction.REJECT))
    keys = {b.key(path) for path in paths}
    for row in b.rows:
        if isinstance(row, model.Vport) and row.key in keys:
            b.put(replace(row, egress_chain=no))
    return Shop(family, builder=b, device=device)


@FAMILIES
@pytest.mark.parametrize(
    ("device", "client"),
    [(d, c) for d in ("tenant", "web") for c in ("vm1", "vm4")] + [("tenant", "gw1")],
)
def test_a_member_that_rejects_is_heard_as_the_vip(
    family: Family, device: str, client: str
) -> None:
    world = rejecting(family, device, "web/vm2", "web/vm3")
    for sport in range(40000, 40006):
        where, reset = world.call(client, sport, seq=7)
        assert where == world.path(client)
        assert reset.tcp_flags == protocol.TCP_RST | protocol.TCP_ACK
        assert tuple_of(reset) == (world.vip, 80, world.ip(client), sport)


@pytest.mark.parametrize("path", ["tenant/far", "far/vm4"])
def test_who_calls_by_dnat_is_refused_by_the_address_that_it_called(path: str) -> None:
    world = rejecting(V4, "tenant", path)
    to = {"sport": 40000, "dport": 9007}
    where, reset = only(world.send("gw1", "203.0.113.20", **to))
    assert where == "provider/uplink1"
    assert tuple_of(reset) == ("203.0.113.20", 9007, world.ip("gw1"), 40000)

    (told,) = world.send("gw1", "203.0.113.20", make=frames.udp, **to)
    quoted = decode(told.frame).embedded
    assert quoted is not None
    assert (format_ip(quoted.ip_dst), quoted.l4_dst) == ("203.0.113.20", 9007)
