# SPDX-License-Identifier: Apache-2.0
"""Flows and errors in words."""

from __future__ import annotations

import pytest

from midoryu.agent.words import error_words, flow_mod_words
from midoryu.openflow import flow
from midoryu.openflow.flow import (
    Flow,
    InstallFlow,
    Match,
    PacketOut,
    RemoveFlow,
    RemoveMeter,
    SetMeter,
)
from midoryu.packet import field
from midoryu.packet.address import parse_ip

VALUE = Flow(
    10,
    1000,
    Match(field.ETH_TYPE | field.IP_SRC, (0x0800, parse_ip("10.0.0.1"))),
    ((flow.SET_ETH_SRC, 1), (flow.SET_TUNNEL, 7, parse_ip("10.0.0.2")), (0, 3)),
    0x6D03,
)
WORDS = (
    "0x6d03 table VPORT priority 1000 match [eth_type=0x800,ip_src=10.0.0.1] "
    "do [set_eth_src:00:00:00:00:00:01 set_tunnel:0x7->10.0.0.2 output:3]"
)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (InstallFlow(VALUE), f"flow {WORDS}"),
        (RemoveFlow(VALUE), f"removal of flow {WORDS}"),
        (SetMeter(3, 100, 10), "meter 3 of 100 packets/s"),
        (RemoveMeter(3), "removal of meter 3"),
        (PacketOut(b"xyz", ()), "packet of 3 bytes with no action"),
    ],
    ids=["flow", "removal", "meter", "no meter", "packet"],
)
def test_what_was_sent_is_told_in_words(value, wanted: str) -> None:
    assert flow_mod_words(value) == wanted


def test_an_unknown_error_is_told_by_its_numbers() -> None:
    assert error_words(4, 9) == "bad match: bad prerequisite"
    assert error_words(4, 99) == "bad match: code 99"
    assert error_words(77, 1) == "error type 77: code 1"
