# SPDX-License-Identifier: Apache-2.0
"""A Ryu application that looks at nothing: what Ryu alone costs.

It answers every packet-in with the same packet-out, else nobody could count them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.handler import MAIN_DISPATCHER, set_ev_cls

# Packet-out: no buffer, from the controller, one output to port 1, no data.
_ANSWER = bytes.fromhex(
    "040d0028 00000001 ffffffff fffffffd 0010 000000000000 00000010 00000001 ffff"
    "000000000000"
)


class IdleApp(RyuApp):  # type: ignore[misc]
    """Does nothing but answer."""

    OFP_VERSIONS: ClassVar[list[int]] = [4]

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def packet_in(self, event: Any) -> None:
        """Answer a packet-in."""
        event.msg.datapath.send(_ANSWER)
