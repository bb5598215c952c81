# SPDX-License-Identifier: Apache-2.0
"""DNS queries that somebody outside the overlay may answer: passed on, and back.

`packet_lane` hands a `Lookup` over; the rim asks (`effect.Resolve`) and always says
how it ended (`event.Resolved`). What is under way is bounded, over all and per vport.
"""

from __future__ import annotations

from typing import Final

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, Resolve
from midoryu.engine.event import Resolved
from midoryu.errors import DecodeError
from midoryu.packet import dns
from midoryu.simulation.outcome import Emission, Lookup
from midoryu.simulation.resolver import response_frame

MAX_LOOKUPS: Final = 512
MAX_LOOKUPS_PER_VPORT: Final = 64
# A rim that died with a query is not waited for any longer.
_FORGET_S: Final = 30.0


def ask(
    core: Core, lookup: Lookup, effects: Effects, now: float
) -> tuple[Emission, ...]:
    """Have a query asked outside, or refuse it.

    Returns:
        The refusal.
    """
    servers = lookup.servers or core.config.dns_forwarders
    if not servers:
        core.counters["DNS queries refused"] += 1
        return (_response(lookup, _failure(lookup, dns.REFUSED)),)
    lookups = core.lookups
    if len(lookups) >= MAX_LOOKUPS:
        for number in [n for n, (_, at) in lookups.items() if now - at > _FORGET_S]:
            del lookups[number]
    of_vport = sum(other.vport == lookup.vport for other, _ in lookups.values())
    if len(lookups) >= MAX_LOOKUPS or of_vport >= MAX_LOOKUPS_PER_VPORT:
        core.counters["DNS queries without room"] += 1
        return (_response(lookup, _failure(lookup, dns.SERVER_FAILURE)),)
    core.lookup_serial += 1
    lookups[core.lookup_serial] = (lookup, now)
    effects.lookups.append(Resolve(core.lookup_serial, servers, lookup.payload))
    core.counters["DNS queries passed on"] += 1
    return ()


def answered(core: Core, event: Resolved) -> tuple[Emission, ...]:
    """Take what the rim heard; return what the client is told."""
    lookup, _ = core.lookups.pop(event.number, (None, 0.0))
    if lookup is None:
        return ()
    try:
        payload = dns.fits(event.answer, lookup.query)
    except DecodeError:
        core.counters["DNS queries without an answer"] += 1
        payload = _failure(lookup, dns.SERVER_FAILURE)
    return (_response(lookup, payload),)


def _failure(lookup: Lookup, code: int) -> bytes:
    return dns.respond(lookup.query, code=code, authoritative=False)


def _response(lookup: Lookup, payload: bytes) -> Emission:
    return Emission(lookup.vport, response_frame(lookup.packet, lookup.mac, payload))
