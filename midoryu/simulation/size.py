# SPDX-License-Identifier: Apache-2.0
"""How large a packet may be where a router sends it, and what happens to larger ones.

`router` asks here when a packet leaves by a link with a smaller MTU than the one that
it came by, and where TCP's MSS option is clamped. `topology.mtu` knows the sizes.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.packet import field, protocol
from midoryu.packet.fragment import may_fragment
from midoryu.packet.mss import is_syn
from midoryu.simulation.answer import Complaint, complain
from midoryu.simulation.outcome import Outcome, Reason
from midoryu.simulation.walk import Walk
from midoryu.simulation.world import READ_PROTO
from midoryu.topology.model import MSS_OF_MTU, Vport
from midoryu.topology.mtu import IPV6_MINIMUM_MTU
from midoryu.topology.view import RouterView

# RFC 9293, section 3.7.1: headers without options.
_V4_HEADERS: Final = 40
_V6_HEADERS: Final = 60


def fit(
    walk: Walk, router: RouterView, entered: Vport, leaving: Vport
) -> Union[Outcome, None]:
    """Hold a packet against the MTU of the link that it leaves by.

    A large IPv4 packet that may be fragmented goes on, and is split when it is sent.

    Returns:
        How the packet ended here, None where it fits or will be split.

    Source: RFC 1191, section 3; RFC 1812, section 5.2.7.1; RFC 4443, section 3.2.
    """
    limit = router.mtus[leaving.key]
    if limit >= max(router.assumed_mtu, router.mtus.get(entered.key, 0)):
        return None
    packet = walk.packet
    is_v6 = packet.eth_type == protocol.ETH_IPV6
    if is_v6:
        limit = max(limit, IPV6_MINIMUM_MTU)
    if not walk.limit or limit < walk.limit:
        walk.limit = limit
    if packet.l3_length <= limit:
        return None
    # No flow: each such packet is answered, or split.
    walk.fields |= field.PAYLOAD
    if walk.generated or may_fragment(packet):
        return None
    return complain(walk, entered, Complaint.TOO_BIG, Reason.TOO_BIG, mtu=limit)


def clamp(walk: Walk, router: RouterView, entered: Vport, leaving: Vport) -> None:
    """Note how large an MSS option may be behind this router."""
    packet = walk.packet
    walk.fields |= READ_PROTO
    if packet.ip_proto != protocol.TCP:
        return
    is_v6 = packet.eth_type == protocol.ETH_IPV6
    headers = _V6_HEADERS if is_v6 else _V4_HEADERS
    for vport in (entered, leaving):
        size = vport.mss_clamp
        if not size:
            continue
        # The flow of other segments must not take SYNs along.
        walk.fields |= field.TCP_FLAGS
        if size == MSS_OF_MTU:
            size = router.mtus[vport.key] - headers
        if is_syn(packet):
            walk.fields |= field.PAYLOAD
            walk.mss = min(walk.mss, size) if walk.mss else size
