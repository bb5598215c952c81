# SPDX-License-Identifier: Apache-2.0
"""The action that gives a copy to a vport's own flow in the TUNNEL table, as bytes.

`wire_action` calls it for `flow.DELIVER`. On the wire it is a clone, so that what the
vport's flow does (a meter that drops, a tunnel key) stays with the copy:

    clone(set_field:KEY->tun_id, output(port=NONE,max_len=64), resubmit(,TUNNEL))

The truncated output to a port that does not exist sends nothing; it makes ovs-vswitchd
keep the clone in the datapath, where a dropping meter would else end the whole packet
(`reversible_actions` in ofproto-dpif-xlate.c counts a truncation, and not a meter
behind a resubmit, as a reason to).

Source: ovs-actions(7) (clone, output with max_len, resubmit).
"""

from __future__ import annotations

import struct
from typing import Final

from midoryu.errors import DecodeError
from midoryu.openflow import pipeline
from midoryu.openflow import wire_match as oxm

EXPERIMENTER: Final = 0xFFFF
NICIRA: Final = 0x0000_2320
CLONE: Final = 42
_RESUBMIT_TABLE: Final = 14
_OUTPUT_TRUNC: Final = 39
_SAME_PORT: Final = 0xFFF8
# The highest number that a port may have; OVS gives out the lowest free ones.
_NO_PORT: Final = 0xFEFF
_MAX_LENGTH: Final = 64

_CLONE: Final = struct.Struct(">HHIH6x")
_SET_KEY: Final = struct.Struct(">HHIQ")
_TRUNC: Final = struct.Struct(">HHIHHI")
_RESUBMIT: Final = struct.Struct(">HHIHHB3x")
_SET_FIELD: Final = 25
_KEY_AT: Final = _CLONE.size + 8


def deliver(key: int) -> bytes:
    """Encode the delivery of a copy to what has a tunnel key."""
    body = (
        _SET_KEY.pack(_SET_FIELD, 16, oxm.TUNNEL_ID, key)
        + _TRUNC.pack(EXPERIMENTER, 16, NICIRA, _OUTPUT_TRUNC, _NO_PORT, _MAX_LENGTH)
        + _RESUBMIT.pack(
            EXPERIMENTER, 16, NICIRA, _RESUBMIT_TABLE, _SAME_PORT, pipeline.TUNNEL
        )
    )
    size = _CLONE.size + len(body)
    return _CLONE.pack(EXPERIMENTER, size, NICIRA, CLONE) + body


def delivered_key(body: bytes) -> int:
    """Read the key of a clone action.

    Raises:
        DecodeError: another clone than `deliver` makes.
    """
    key = int.from_bytes(body[_KEY_AT : _KEY_AT + 8], "big")
    if body != deliver(key):
        raise DecodeError("a clone that is no delivery to a vport")
    return key
