# SPDX-License-Identifier: Apache-2.0
"""Records that nobody has any more are made anew from the flows that still stand.

All hosts that knew a connection lost agent and journal at once. Its flow says where its
packets come in, how they look then, and how they leave: its record, but for what no
host needs. `adoption` asks when a flow that it found fits no record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from midoryu.engine import state_lane
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.openflow import flow as of
from midoryu.openflow.flow import Action, Flow
from midoryu.packet import field, protocol
from midoryu.packet.codec import decode
from midoryu.packet.specimen import specimen
from midoryu.simulation.outcome import Simulation
from midoryu.simulation.simulator import simulate
from midoryu.simulation.walk import PORT_PROTOCOLS
from midoryu.state.connection import (
    Connection,
    Phase,
    Translation,
    TranslationKind,
)
from midoryu.state.portpool import BLOCK_PORTS
from midoryu.topology.model import Vport
from midoryu.translation import flows as translation

# Who has not said in this time after the start what it knows, will not be waited for;
# nor will a flow of the other direction be that seems to be the first one's.
_SILENT_S: Final = 5.0
_TRANSLATING: Final = (of.SET_IP_SRC, of.SET_IP_DST, of.SET_L4_SRC, of.SET_L4_DST)
# Whether it was answered, nobody knows any more: it lives as if it had been.
_LASTING: Final = {protocol.TCP: Phase.TCP_ESTABLISHED, protocol.UDP: Phase.UDP}


def rebuild(
    core: Core,
    flow: Flow,
    values: Mapping[int, int],
    vport: Vport,
    effects: Effects,
    now: float,
) -> None:
    """Make the record that a flow must have had, if there can be only one.

    Args:
        core: what is known; peers had time to say what they know.
        flow: it stands in the switch, and fits no record.
        values: what it matches.
        vport: where its packets come in.
        effects: gets the record's push.
        now: monotonic seconds.
    """
    proto = values.get(field.IP_PROTO, 0)
    if proto not in PORT_PROTOCOLS or values.get(field.TUNNEL_KEY):
        return
    simulation = _as_if_new(core, values, vport, now)
    connection = simulation.connection
    if connection is None or simulation.found is not None:
        return
    is_late = now - core.started >= _SILENT_S
    if not is_late and not _seems_first(connection):
        return
    peers = state_lane.interested_peers(core, connection)
    if not _have_spoken(core, peers, now) or not _take_source(core, flow, simulation):
        return
    if _translated(flow.actions) != _translated(translation.rewrites(simulation)):
        return
    connection.phase = _LASTING.get(proto, connection.phase)
    state_lane.commit(core, connection, (), effects, now)
    core.counters["connections from flows"] += 1


def _as_if_new(
    core: Core, values: Mapping[int, int], vport: Vport, now: float
) -> Simulation:
    """Simulate a flow's first packet."""
    fields = dict(values)
    if fields.get(field.IP_PROTO) == protocol.TCP:
        fields[field.TCP_FLAGS] = protocol.TCP_SYN
    return simulate(decode(specimen(fields)), vport, core.world, now=now)


def _seems_first(connection: Connection) -> bool:
    """Tell whether a flow's direction is that of its connection's first packet.

    A translation that is made anew shows it. Else both directions look alike, and two
    hosts would make a record each: who has the higher port spoke first.
    """
    kinds = {one.kind for one in connection.translations}
    if kinds & {TranslationKind.SOURCE, TranslationKind.DESTINATION}:
        return True
    source, destination, port, to_port = connection.original
    return (port, source) > (to_port, destination)


def _have_spoken(core: Core, peers: Iterable[int], now: float) -> bool:
    """Tell whether all who might have the record said that they do not."""
    if core.replicator is None:
        return False
    return now - core.started >= _SILENT_S or all(
        core.replicator.synced_with(peer) for peer in peers
    )


def _translated(actions: Iterable[Action]) -> set[Action]:
    """Return what actions translate: by which way packets leave may have changed."""
    return {action for action in actions if action[0] in _TRANSLATING}


def _take_source(core: Core, flow: Flow, simulation: Simulation) -> bool:
    """Take the translated source from a flow; False where this host never made it."""
    connection, walk = simulation.connection, simulation.walk
    rule = walk.masquerade if walk is not None else None
    if connection is None or rule is None:
        return True
    headers = simulation.headers
    has = {action[0]: action[1] for action in flow.actions if len(action) > 1}
    address = has.get(of.SET_IP_SRC, 0)
    port = has.get(of.SET_L4_SRC, simulation.packet.headers.l4_src)
    block = port // BLOCK_PORTS
    if address not in rule.addresses or not core.nat.holds(rule.router, address, block):
        return False
    picked = (rule.router, TranslationKind.SOURCE, headers.ip_src, headers.l4_src)
    if connection.translations.count(Translation(*picked)) != 1:
        return False
    headers.ip_src, headers.l4_src = address, port
    connection.translations = tuple(
        one._replace(address=address, port=port) if one == picked else one
        for one in connection.translations
    )
    return True
