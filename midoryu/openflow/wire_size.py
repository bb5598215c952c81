# SPDX-License-Identifier: Apache-2.0
"""The action that lets only packets of a size pass, as bytes and back.

`flow.CHECK_SIZE` is two actions on the wire: whether the frame is larger goes into
`pipeline.REG_TOO_LARGE`, then table SIZE is asked, whose flow sends a larger one to the
controller and ends everything. `wire_action` uses this.

Source: ovs-actions(7): check_pkt_larger, resubmit, exit; their form in OVS's
lib/ofp-actions.c.
"""

from __future__ import annotations

import struct
from typing import Final

from midoryu.errors import DecodeError
from midoryu.openflow import pipeline

CHECK: Final = 49
RESUBMIT: Final = 14
EXIT: Final = 17

_EXPERIMENTER: Final = 0xFFFF
_NICIRA: Final = 0x0000_2320
# NXM_NX_REG1, bit 0.
_REG1: Final = 0x0001_0004 | pipeline.REG_TOO_LARGE << 9
_IN_PORT: Final = 0xFFF8
_CHECK: Final = struct.Struct(">HHIHHHI6x")
_RESUBMIT: Final = struct.Struct(">HHIHHB3x")
_EXIT: Final = struct.Struct(">HHIH6x")


def check_size(limit: int) -> bytes:
    """Encode "frames of more than `limit` bytes go to the controller"."""
    check = _CHECK.pack(_EXPERIMENTER, 24, _NICIRA, CHECK, limit, 0, _REG1)
    table = int(pipeline.SIZE)
    return check + _RESUBMIT.pack(_EXPERIMENTER, 16, _NICIRA, RESUBMIT, _IN_PORT, table)


def exit_actions() -> bytes:
    """Encode "no further action, in no table"."""
    return _EXIT.pack(_EXPERIMENTER, 16, _NICIRA, EXIT)


def checked_size(body: bytes) -> int:
    """Decode the first half of `check_size`; return its limit.

    Raises:
        DecodeError: it is not as `check_size` makes it.
    """
    if len(body) != _CHECK.size:
        raise DecodeError(f"check_pkt_larger of {len(body)} bytes")
    *_, limit, offset, header = _CHECK.unpack(body)
    if offset or header != _REG1:
        raise DecodeError("check_pkt_larger into another register")
    return int(limit)


def is_size_table(body: bytes) -> bool:
    """Tell whether a resubmit action is the second half of `check_size`."""
    return len(body) == _RESUBMIT.size and body[12] == int(pipeline.SIZE)
