# SPDX-License-Identifier: Apache-2.0
"""The replicator of one agent: records in, datagrams out, and the reverse.

The only door of this room for the engine. It knows peers by their host keys; which
underlay address a peer has, and the tunnel key, is `translation`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Union

from midoryu.replication import entry as codec
from midoryu.replication.confirm import Confirmations
from midoryu.replication.echo import Echoes
from midoryu.replication.keyring import Keyring
from midoryu.replication.peer import Peer
from midoryu.replication.received import Received
from midoryu.replication.roster import Roster
from midoryu.replication.speaker import Datagram, Delivery, Speaker
from midoryu.replication.told import Told
from midoryu.replication.version import WANT_MAX, Version, encode_wants
from midoryu.replication.wire import (
    CONFIRM,
    NUMBERED,
    UNREPAIRED,
    Header,
    Message,
    Refusal,
    StatePacketError,
    decode,
    pack,
    widen,
)
from midoryu.state.connection import Connection, StateKey, mark_of
from midoryu.state.lifetime import DEFAULT_LIFETIMES_S

__all__ = ["Datagram", "Delivery", "Received", "Replicator"]

# Touches and removals wait this long for company.
FLUSH_S: Final = 0.05
# Hosts that talk to our earlier life are told of the new one at most so often.
_CORRECT_S: Final = 0.1


class Replicator:
    """All state streams of one agent.

    Args:
        host: own host key.
        epoch: 32 bits, larger at each start of this agent.
        keys: authentication keys; the first signs, all verify.
        mtu_bytes: MTU of the underlay.
        now: monotonic seconds.
        lifetimes_s: seconds, one for each `Phase`; touches go out at most once in a
            third of it.
        delivery: how much is done for the arrival of state.
        confirm_interval_s: an unconfirmed push is repeated after this time.
        confirm_tries: this many times; then repair has to do.
    """

    def __init__(
        self,
        *,
        host: int,
        epoch: int,
        keys: Sequence[bytes],
        mtu_bytes: int,
        now: float,
        lifetimes_s: Sequence[float] = DEFAULT_LIFETIMES_S,
        delivery: Delivery = Delivery.REPAIR,
        confirm_interval_s: float = 0.02,
        confirm_tries: int = 5,
    ) -> None:
        self.refusals: Counter[Refusal] = Counter()
        """Frames that were not taken, by cause."""
        self._host = host
        self._keyring = Keyring(keys)
        self._signer = self._keyring.signer
        self._speaker = Speaker(
            host,
            epoch,
            self._signer,
            mtu_bytes=mtu_bytes,
            is_repaired=delivery is not Delivery.BEST_EFFORT,
        )
        self._confirm_flag = CONFIRM if delivery is Delivery.CONFIRM else 0
        self._confirmations = Confirmations(confirm_interval_s, confirm_tries)
        self._roster = Roster(host)
        self._told = Told(lifetimes_s)
        self._last_query = 0
        self.echoes = Echoes(host, self._speaker, self._signer)
        """Asks whether packets reach peers and come back."""

    def set_peers(self, hosts: Iterable[int], now: float) -> None:
        """Name all other hosts; new ones are greeted at the next tick."""
        for peer in self._roster.name(hosts, now):
            self._confirmations.forget(peer)

    def change_keys(self, keys: Sequence[bytes], now: float) -> None:
        """Use other authentication keys from now on, without a gap; see `keyring`."""
        self._keyring.change(keys, now)

    def push(
        self, connections: Iterable[Connection], peers: Iterable[int], now: float
    ) -> list[Datagram]:
        """Make the datagrams that tell peers of whole connections, to send now."""
        connections = tuple(connections)
        entries = [codec.encode_record(one, self._host, now) for one in connections]
        batches = list(pack(entries, self._speaker.room_bytes))
        ids = [one.id for one in connections]
        datagrams = []
        for peer in self._roster.others(peers, now):
            for id_ in ids:
                peer.out.removes.pop(id_, None)
                peer.out.touches.pop(id_, None)
            datagrams += [
                self._speaker.numbered(peer, batch, now, flags=self._confirm_flag)
                for batch in batches
            ]
            if self._confirm_flag and batches:
                self._confirmations.expect(peer, ids, len(batches), now)
            self._roster.schedule(peer)
        return datagrams

    def is_awaited(self, connection_id: int) -> bool:
        """Tell whether a peer still owes the confirmation of a pushed connection."""
        return connection_id in self._confirmations

    def touch(
        self, connections: Iterable[Connection], peers: Iterable[int], now: float
    ) -> None:
        """Queue the news that connections were used (or changed their phase).

        What peers heard less than a third of the lifetime ago is not repeated, unless
        the phase changed, or the record.
        """
        news = [
            codec.Touch(one.id, one.phase, one.last_used, _version_of(one))
            for one in connections
            if self._told.is_news(one)
        ]
        for peer in self._roster.others(peers, now) if news else ():
            for one in news:
                if one.id not in peer.out.removes:
                    peer.out.touches[one.id] = one
            self._plan_flush(peer, now)

    def remove(self, ids: Iterable[int], peers: Iterable[int], now: float) -> None:
        """Queue the news that connections are over."""
        ids = tuple(ids)
        for id_ in ids:
            self._told.forget(id_)
        for peer in self._roster.others(peers, now) if ids else ():
            for id_ in ids:
                peer.out.touches.pop(id_, None)
                peer.out.removes[id_] = None
            self._plan_flush(peer, now)

    def sync(self, peer: int, connections: Iterable[Connection], now: float) -> None:
        """Queue all that a peer should have; sent in paced bursts by `tick`."""
        known = self._roster.get(peer)
        if known is not None:
            known.out.start_sync(connections, now)
            self._roster.schedule(known)

    def pull(self, peer: int, now: float) -> None:
        """Ask a peer once more for all that this host should have, at the next tick."""
        known = self._roster.get(peer)
        if known is not None:
            known.inbox.ask_sync(now)
            self._roster.schedule(known)

    def want(self, ids: Iterable[int], peer: int, now: float) -> list[Datagram]:
        """Ask a peer for records by id; repaired like a push, to send now."""
        ids = tuple(ids)
        datagrams = []
        for known in self._roster.others((peer,), now):
            for i in range(0, len(ids), WANT_MAX):
                entry = encode_wants(ids[i : i + WANT_MAX])
                datagrams.append(self._speaker.numbered(known, entry, now))
            self._roster.schedule(known)
        return datagrams

    def synced_with(self, peer: int) -> bool:
        """Tell whether a peer has sent all that this host should have."""
        known = self._roster.get(peer)
        return known is not None and known.inbox.is_synced

    def query(
        self, keys: Iterable[StateKey], peers: Iterable[int], now: float
    ) -> tuple[int, list[Datagram]]:
        """Ask peers for the record that any of these keys finds, to send now.

        Returns:
            The question's number (see `Received.unknown`), and the datagrams.
        """
        self._last_query = self._last_query % 0xFFFF_FFFF + 1
        entry = codec.encode_query(codec.Query(self._last_query, tuple(keys)))
        return self._last_query, self._tell(entry, peers, now)

    def say_unknown(self, peer: int, number: int, now: float) -> list[Datagram]:
        """Answer a peer's question: there is no such record here."""
        return self._tell(codec.encode_unknown(number), (peer,), now)

    def beat(self, peers: Iterable[int], now: float) -> list[Datagram]:
        """Let peers know that this host lives, to send now."""
        return self._tell(b"", peers, now)

    def notify(
        self, notices: Iterable[codec.Notice], peers: Iterable[int], now: float
    ) -> list[Datagram]:
        """Tell peers who died or came back; repaired like a push, to send now."""
        entry = codec.encode_notices(notices)
        datagrams = []
        for peer in self._roster.others(peers, now):
            datagrams.append(self._speaker.numbered(peer, entry, now))
            self._roster.schedule(peer)
        return datagrams

    def pass_on(
        self, answer: codec.ProbeAnswer, peer: int, now: float
    ) -> list[Datagram]:
        """Pass a member's answer on to the host that probes it; to send now."""
        return self._tell(codec.encode_probe_answer(answer), (peer,), now)

    def _tell(self, entry: bytes, peers: Iterable[int], now: float) -> list[Datagram]:
        # Outside the stream: worth nothing when it comes late.
        return [
            self._speaker.plain(peer, entry, now)
            for peer in self._roster.others(peers, now)
        ]

    def deadline(self) -> float | None:
        """Return the instant when `tick` has something to do."""
        return self._roster.deadline()

    def tick(self, now: float) -> list[Datagram]:
        """Do what is due: hellos, heartbeats, NACKs, touches, syncs."""
        datagrams: list[Datagram] = []
        if self._keyring.due is not None:
            self._keyring.step(now)
        while (peer := self._roster.take_due(now)) is not None:
            datagrams += self._speaker.flush(peer, now)
            datagrams += self._speaker.sync_burst(peer, now)
            datagrams += self._speaker.control(peer, now)
            datagrams += [
                self._speaker.repeated(peer, entries, now, number=number, flags=CONFIRM)
                for number, entries in self._confirmations.repeats(peer, now)
            ]
            self._roster.schedule(peer)
        return datagrams

    def receive(self, frame: bytes, now: float) -> Received:
        """Take a frame from the state port; never raises for what is in it."""
        received = Received()
        if self._keyring.due is not None:
            self._keyring.step(now)
        try:
            if self.echoes.is_answer(frame):
                received.echoed = self.echoes.answerer(frame, now)
                return received
            message = decode(frame, self._host, self._signer, now)
            received.sender = message.header.sender
            peer = self._admit(message.header, received, now)
            self._take(peer, message, received, now)
        except StatePacketError as error:
            received.refusal = error.refusal
            self.refusals[error.refusal] += 1
            known = self._roster.get(received.sender)
            if known is not None:
                known.refusals += 1
        return received

    def stats(self) -> dict[int, dict[str, Union[int, float, bool, None]]]:
        """Return numbers for each peer, by host key."""
        return {peer.host: peer.stats() for peer in self._roster}

    def _admit(self, header: Header, received: Received, now: float) -> Peer:
        """Find the peer that sent a message, and refuse what is not of this life.

        Raises:
            StatePacketError: an earlier life of either end, or too many strangers.
        """
        if header.sender == self._host:
            raise StatePacketError(Refusal.OWN)
        peer = self._roster.meet(header.sender, now)
        if peer is None:
            raise StatePacketError(Refusal.UNKNOWN_PEER, f"host {header.sender}")
        if header.epoch < peer.epoch:
            self._correct(peer, received, now)
            raise StatePacketError(Refusal.STALE_SENDER, f"epoch {header.epoch}")
        if header.epoch > peer.epoch:
            if peer.epoch:
                self._confirmations.forget(peer)
            peer.begin(header.epoch, now)
        if header.receiver_epoch > self._speaker.epoch:
            # An earlier life of this host had a later epoch: its clock was set back.
            # Peers refuse the present life until its epoch is the latest again.
            self._speaker.epoch = header.receiver_epoch + 1
        if header.receiver_epoch not in (0, self._speaker.epoch):
            self._correct(peer, received, now)
            raise StatePacketError(
                Refusal.STALE_RECEIVER, f"epoch {header.receiver_epoch}"
            )
        return peer

    def _correct(self, peer: Peer, received: Received, now: float) -> None:
        """Tell a peer which lives are present, but not for each of its packets."""
        if now >= peer.correct_after:
            peer.correct_after = now + _CORRECT_S
            received.replies.append(self._speaker.hello(peer, now, wants_answer=True))
        self._roster.schedule(peer)

    def _take(
        self, peer: Peer, message: Message, received: Received, now: float
    ) -> None:
        header, inbox = message.header, peer.inbox
        peer.received += 1
        peer.last_heard = now
        if header.receiver_epoch == self._speaker.epoch:
            if not peer.has_answered:
                peer.answer(now)
                received.new_peers.append(peer.host)
            number = widen(header.acknowledged, peer.out.last)
            ids = peer.out.acknowledge(number)
            received.confirmed += self._confirmations.confirm(peer, ids)
        number = widen(header.sequence, inbox.highest)
        is_repaired = not header.flags & UNREPAIRED
        entries: Iterable[codec.Entry] = message.entries
        if header.flags & NUMBERED:
            if inbox.is_known(number):
                self._answer_confirm(peer, header, received, now)
                raise StatePacketError(Refusal.DUPLICATE, f"number {number}")
            entries = list(inbox.settle(number, entries))
            inbox.arrive(number, now, is_repaired=is_repaired)
            received.sort(entries)
        elif is_repaired:
            inbox.expect(number, now)
        for one in entries:
            self._act(peer, one, received, now, number=number if is_repaired else 0)
        received.replies += self._speaker.control(peer, now)
        self._answer_confirm(peer, header, received, now)
        self._roster.schedule(peer)

    def _act(
        self,
        peer: Peer,
        one: codec.Entry,
        received: Received,
        now: float,
        *,
        number: int,
    ) -> None:
        """Do what an entry asks for; `number` is what a sync that ends waits for."""
        out = peer.out
        if isinstance(one, codec.Hello):
            if one.wants_answer:
                received.replies.append(
                    self._speaker.hello(peer, now, wants_answer=False)
                )
        elif isinstance(one, codec.Heartbeat):
            peer.inbox.hear(one, now)
            if peer.inbox.arrived == peer.inbox.highest:
                received.replies.append(self._speaker.plain(peer, b"", now))
        elif isinstance(one, codec.Nack):
            received.replies += self._speaker.repeat(peer, one, now)
        elif isinstance(one, codec.SyncRequest):
            is_lost = not self._speaker.is_repaired and out.sync_queue is None
            if one.number > out.sync_number or is_lost:
                out.sync_number = one.number
                received.sync_wanted_by.append(peer.host)
            elif out.sync_queue is None:
                received.replies.append(self._speaker.heartbeat(peer, now))
        elif isinstance(one, codec.SyncDone):
            peer.inbox.end_sync(one.number, number)
        else:
            received.hand_on(one)

    def _answer_confirm(
        self, peer: Peer, header: Header, received: Received, now: float
    ) -> None:
        if header.flags & CONFIRM:
            received.replies.append(self._speaker.plain(peer, b"", now))

    def _plan_flush(self, peer: Peer, now: float) -> None:
        if peer.out.flush_due is None:
            peer.out.flush_due = now + FLUSH_S
        self._roster.schedule(peer)


def _version_of(connection: Connection) -> Union[Version, None]:
    """Say which state a record has; nothing of most, which were never changed."""
    if not connection.version:
        return None
    return Version(connection.id, connection.version, mark_of(connection))
