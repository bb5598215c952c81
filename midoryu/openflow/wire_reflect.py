# SPDX-License-Identifier: Apache-2.0
"""The action that sends a tunnel packet back to the host it came from, as bytes.

`wire_action` calls it for `flow.REFLECT`. On the wire: the far end becomes the
destination, the source is left to the switch's routes, and out by the port of entry:

    move:tun_src->tun_dst, load:0->tun_src, the same for IPv6, output:in_port

Only one family has a far end; of the other, zeros are moved.

Source: ovs-actions(7) (move, load); ovs-fields(7) (tun_src, tun_ipv6_src).
"""

from __future__ import annotations

import struct
from typing import Final

from midoryu.openflow import pipeline
from midoryu.openflow import wire_match as oxm

_EXPERIMENTER: Final = 0xFFFF
_NICIRA: Final = 0x0000_2320
_REG_MOVE: Final = 6
_REG_LOAD: Final = 7
_HALF_BITS: Final = 64
_HEAD: Final = struct.Struct(">HHIH")
_MOVE: Final = struct.Struct(">HHHII")
_LOAD: Final = struct.Struct(">HIQ")
_OUTPUT: Final = struct.Struct(">HHIH6x")


def _action(subtype: int, body: bytes) -> bytes:
    return _HEAD.pack(_EXPERIMENTER, 24, _NICIRA, subtype) + body


def _turn(source: int, destination: int) -> bytes:
    """Move one field into the other and clear it."""
    bits = (source & 0xFF) * 8
    made = _action(_REG_MOVE, _MOVE.pack(bits, 0, 0, source, destination))
    for start in range(0, bits, _HALF_BITS):
        count = min(bits - start, _HALF_BITS)
        made += _action(_REG_LOAD, _LOAD.pack(start << 6 | count - 1, source, 0))
    return made


REFLECT: Final = (
    _turn(oxm.TUN_IPV4_SRC, oxm.TUN_IPV4_DST)
    + _turn(oxm.TUN_IPV6_SRC, oxm.TUN_IPV6_DST)
    + _OUTPUT.pack(0, 16, pipeline.PORT_IN_PORT, 0)
)
"""The whole action."""
