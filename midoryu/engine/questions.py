# SPDX-License-Identifier: Apache-2.0
"""Questions between hosts: who has the record of this packet's connection.

A packet in the middle of a connection may come where its record is not (yet): a state
packet was lost, an agent forgot, a path moved. Those who may know are asked, and the
packet waits for a moment. `packet_lane` parks it, `state_lane` brings the answers.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.engine.core import Core, Question
from midoryu.engine.effect import Effects
from midoryu.engine.state_lane import send
from midoryu.replication.entry import Query
from midoryu.simulation.outcome import StateWanted
from midoryu.state.connection import StateKey
from midoryu.state.portpool import BLOCK_PORTS

# A packet waits this long for a record that a peer may have (design, section 8).
STATE_WAIT_S: Final = 0.05
# A question is asked again at this pace, while its packet waits.
_REPEAT_S: Final = 0.015
# After a start, until peers have sent what they know, at most until this age.
_MEMORY_WAIT_S: Final = 1.0
# A vport that has just moved here has records that are still on their way.
_MOVE_WAIT_S: Final = 0.2
_MOVE_S: Final = 1.0
# ... for longer where its old host has not sent all it has, at most until this age.
_PULL_S: Final = 5.0


def who_may_know(core: Core, vport: int, wanted: StateWanted) -> frozenset[int]:
    """Return the hosts that may have a record.

    Those that share an ingress set with the vport where the packet came in or the one
    where it would leave, the one that had the vport before, and the holder of the NAT
    port block that the packet is addressed to.
    """
    ends = {vport, wanted.egress} - {0}
    hosts = set(core.topology.interested_hosts(ends))
    hosts.add(core.moved_from.get(vport, 0))
    hosts.add(core.topology.location(vport))
    for key in wanted.keys:
        hosts.add(_holder(core, key))
    hosts -= {core.host, 0}
    return frozenset(host for host in hosts if core.places.underlay(host))


def is_learning(core: Core, vport: int, now: float) -> bool:
    """Tell whether any record of a vport may be missing here, and on its way."""
    return not core.has_memory(now) or _is_moving(core, vport, now)


def _is_moving(core: Core, vport: int, now: float) -> bool:
    is_here = vport in core.places.ofport_by_vport
    if is_here and core.topology.location(vport) not in (0, core.host):
        # Its interface is here already; the NSDB does not say so yet.
        return True
    moved_at = core.moved_at.get(vport)
    if moved_at is None or now - moved_at >= _PULL_S:
        return False
    if now - moved_at < _MOVE_S or core.replicator is None:
        return True
    return not core.replicator.synced_with(core.moved_from[vport])


def learnt_at(core: Core, vport: int, now: float) -> float:
    """Return until when a packet may wait because its host is learning."""
    wait_until = now
    if not core.has_memory(now):
        wait_until = core.started + _MEMORY_WAIT_S
    if _is_moving(core, vport, now):
        wait_until = max(wait_until, now + _MOVE_WAIT_S)
    return wait_until


def _holder(core: Core, key: StateKey) -> int:
    device, _, _, destination, _, port = key
    lease = core.lease_at.get((destination, port // BLOCK_PORTS))
    return lease.host if lease is not None else 0


def ask(
    core: Core,
    wanted: StateWanted,
    peers: frozenset[int],
    effects: Effects,
    now: float,
) -> None:
    """Ask peers for a record, once."""
    if core.replicator is None or wanted in core.asked:
        return
    core.asked[wanted] = now
    number, datagrams = core.replicator.query(wanted.keys, peers, now)
    core.questions[number] = Question(wanted, set(peers), now)
    core.counters["records asked for"] += 1
    send(core, datagrams, effects)


def answer(core: Core, peer: int, query: Query, effects: Effects, now: float) -> None:
    """Answer a peer's question: with the record, or with "unknown"."""
    if core.replicator is None:
        return
    for key in query.keys:
        hit = core.connections.find(key)
        if hit is not None:
            core.counters["questions answered"] += 1
            datagrams = core.replicator.push((hit.connection,), (peer,), now)
            send(core, datagrams, effects)
            return
    core.counters["questions not known"] += 1
    send(core, core.replicator.say_unknown(peer, query.number, now), effects)


def unknown(core: Core, peer: int, number: int) -> Union[StateWanted, None]:
    """Note that a peer does not know.

    Returns:
        What was asked for, when nobody is left who could know it; else None.
    """
    question = core.questions.get(number)
    if question is None:
        return None
    question.open_peers.discard(peer)
    if question.open_peers:
        return None
    del core.questions[number]
    return question.wanted


def deadline(core: Core, now: float) -> Union[float, None]:
    """Return when a question is to be asked again, None for never."""
    return now + _REPEAT_S if core.questions and len(core.waiting) else None


def repeat(core: Core, effects: Effects, now: float) -> None:
    """Ask again for what packets still wait for: a question may get lost."""
    if core.replicator is None or not len(core.waiting):
        return
    waited_for = set(core.waiting.wanted())
    for number, question in list(core.questions.items()):
        if question.wanted not in waited_for or now - question.asked_at < _REPEAT_S:
            continue
        del core.questions[number]
        peers = frozenset(question.open_peers)
        number, datagrams = core.replicator.query(question.wanted.keys, peers, now)
        core.questions[number] = Question(question.wanted, set(peers), now)
        send(core, datagrams, effects)


def forget_old(core: Core, now: float) -> None:
    """Forget questions whose time is over."""
    for number, question in list(core.questions.items()):
        if now - question.asked_at > STATE_WAIT_S * 2:
            del core.questions[number]
