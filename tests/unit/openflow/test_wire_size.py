# SPDX-License-Identifier: Apache-2.0
"""Checking a packet's size: bytes as OVS 3.1 prints them, and back."""

from __future__ import annotations

import pytest

from midoryu.errors import DecodeError
from midoryu.openflow import flow, wire_size
from midoryu.openflow.wire_action import decode_instructions, encode_instructions

# `ovs-ofctl ofp-print`: check_pkt_larger(1414)->NXM_NX_REG1[0],resubmit(,30)
ON_THE_WIRE = (
    "ffff0018000023200031058600000001"
    + "0204000000000000"
    + "ffff001000002320000efff81e000000"
)


def test_the_bytes_are_those_that_ovs_reads() -> None:
    assert wire_size.check_size(1414).hex() == ON_THE_WIRE


def test_what_was_encoded_decodes_to_the_same_actions() -> None:
    actions: tuple[flow.Action, ...]
    actions = ((flow.CHECK_SIZE, 1414), (flow.DEC_TTL,), (flow.OUTPUT, 7))
    assert decode_instructions(encode_instructions(actions, 0))[0] == actions
    actions = ((flow.METER, 3), (flow.CONTROLLER,), (flow.EXIT,))
    assert decode_instructions(encode_instructions(actions, 0))[0] == actions


def test_half_of_it_is_refused() -> None:
    whole = encode_instructions(((flow.CHECK_SIZE, 1414),), 0)
    half = bytearray(whole[:-16])
    half[2:4] = len(half).to_bytes(2, "big")
    with pytest.raises(DecodeError):
        decode_instructions(bytes(half))


def test_another_register_is_refused() -> None:
    body = bytearray(wire_size.check_size(1414)[:24])
    body[16:20] = (0x0001_0404).to_bytes(4, "big")
    with pytest.raises(DecodeError):
        wire_size.checked_size(bytes(body))
    with pytest.raises(DecodeError):
        wire_size.checked_size(bytes(body[:16]))
