# SPDX-License-Identifier: Apache-2.0
"""What one frame from the state port brings to the engine.

`session` fills it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from midoryu.compat import SLOTS
from midoryu.replication.entry import (
    Entry,
    Notice,
    ProbeAnswer,
    Query,
    Record,
    Remove,
    Touch,
    Unknown,
)
from midoryu.replication.speaker import Datagram
from midoryu.replication.version import Version, Want
from midoryu.replication.wire import Refusal
from midoryu.state.connection import Connection


@dataclass(**SLOTS)
class Received:
    """What one frame brought."""

    sender: int = 0
    """Host key, 0 where the frame was refused before it was known."""
    echoed: int = 0
    """Host whose switch sent a question back; then nothing else is there."""
    records: list[Connection] = field(default_factory=list)
    """To import first; `last_used` is on this host's clock."""
    touches: list[Touch] = field(default_factory=list)
    """To apply after the records."""
    versions: dict[int, Version] = field(default_factory=dict)
    """Which states of touched records the sender has, by id; else version 0."""
    wanted: list[int] = field(default_factory=list)
    """Ids of records that the sender asks for."""
    removed: list[int] = field(default_factory=list)
    """Ids of connections that are over."""
    replies: list[Datagram] = field(default_factory=list)
    """To send now."""
    sync_wanted_by: list[int] = field(default_factory=list)
    """Peers to call `Replicator.sync` for."""
    new_peers: list[int] = field(default_factory=list)
    """Peers that answered for the first time in their present life."""
    confirmed: list[int] = field(default_factory=list)
    """Pushed connections that now every peer has confirmed."""
    queries: list[Query] = field(default_factory=list)
    """Questions of the sender for records, to answer by a push or `say_unknown`."""
    unknown: list[int] = field(default_factory=list)
    """Numbers of own questions that the sender cannot answer."""
    notices: list[Notice] = field(default_factory=list)
    """What a gateway says about its fellows."""
    probe_answers: list[ProbeAnswer] = field(default_factory=list)
    """What members answered to probes of this host."""
    refusal: Refusal | None = None
    """Why nothing was taken; already counted."""

    def sort(self, entries: Iterable[Entry]) -> None:
        """Put entries of the stream where the engine finds them."""
        for one in entries:
            if isinstance(one, Record):
                self.records.append(one.connection)
            elif isinstance(one, Touch):
                self.touches.append(one)
            elif isinstance(one, Remove):
                self.removed.append(one.id)
            elif isinstance(one, Version):
                self.versions[one.id] = one
            elif isinstance(one, Want):
                self.wanted.append(one.id)
            elif isinstance(one, Notice):
                self.notices.append(one)

    def hand_on(self, one: Entry) -> None:
        """Leave to the engine what only the engine can do."""
        if isinstance(one, Query):
            self.queries.append(one)
        elif isinstance(one, Unknown):
            self.unknown.append(one.number)
        elif isinstance(one, ProbeAnswer):
            self.probe_answers.append(one)
