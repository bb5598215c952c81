# SPDX-License-Identifier: Apache-2.0
"""Flows of one kind: what they have in common, and their messages ready to be filled.

Siblings differ in the ends of their connection and in what is made of its source.
`express` has a shape for each direction, `flow_index` keeps what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Union

from midoryu.engine.flow_index import PlannedEntry, match_code
from midoryu.openflow import wire
from midoryu.openflow.flow import Action, Flow, InstallFlow, Match
from midoryu.openflow.stencil import Stencil
from midoryu.openflow.wire_action import encode_actions
from midoryu.packet import field
from midoryu.packet.address import V4_MAPPED
from midoryu.state.connection import FourTuple, Translation
from midoryu.topology.tag import Tag

# What differs, as numbers of a flow: the ends, and what is made of the source.
SOURCE: Final = 0
DESTINATION: Final = 1
SOURCE_PORT: Final = 2
ADDRESS: Final = 3
PORT: Final = 4
# Bytes in a message: the cookie, then these; an IPv6 address is two numbers.
_WIDTHS_V4: Final = (8, 4, 4, 2, 4, 2)
_WIDTHS_V6: Final = (8, 8, 8, 8, 8, 2, 8, 8, 2)

# The place of one of the numbers among a match's values.
MatchHole = tuple[int, int]
Numbers = tuple[int, int, int, int, int]


class NotedEntry(PlannedEntry):
    """A planned flow that keeps its record (`memory.note`)."""

    __slots__ = ("note",)

    def __init__(
        self,
        plan: FlowShape,
        cookie: int,
        code: int,
        connection: int,
        ends: FourTuple,
        translation: Union[Translation, None],
        note: bytes,
    ) -> None:
        super().__init__(plan, cookie, code, connection, ends, translation)
        self.note = note

    @property
    def flow(self) -> Flow:
        """The flow as it stands in the switch."""
        return replace(self.plan.flow_of(self), note=self.note)


class FlowShape:
    """What all flows of one kind have in common.

    Args:
        model: one of them.
        match: (field, number) that differs in its match; others are as in the model.
        actions: action kind -> the number that is its operand.
        tags_of: lists the tags of its own that a flow has.
        shared: tags that all of them have.
        is_v4: they are for IPv4, else for IPv6.
        returns: it serves the return direction.
    """

    __slots__ = (
        "_actions",
        "_match",
        "_model",
        "_tags_of",
        "_values",
        "actions_bytes",
        "fill",
        "in_port",
        "returns",
        "shared",
    )

    def __init__(
        self,
        model: Flow,
        *,
        match: dict[int, int],
        actions: dict[int, int],
        tags_of: Callable[[Numbers], frozenset[Tag]],
        shared: frozenset[Tag],
        is_v4: bool,
        returns: bool = False,
    ) -> None:
        self._model = model
        fields, values = model.match
        self._match: tuple[MatchHole, ...] = tuple(
            (bin(fields & (bit - 1)).count("1"), number)
            for bit, number in match.items()
            if fields & bit
        )
        self._values = list(values)
        self._actions = actions
        self._tags_of = tags_of
        self.shared = shared
        self.returns = returns
        self.in_port = values[0] if fields & field.IN_PORT else 0
        render = self._render_v4 if is_v4 else self._render_v6
        stencil = Stencil(render, _WIDTHS_V4 if is_v4 else _WIDTHS_V6)
        self.fill = stencil.fill
        """Makes the message: see `_WIDTHS_V4`, `_WIDTHS_V6`."""
        self.actions_bytes = len(encode_actions(model.actions))
        """How many bytes at the message's end are the actions for a packet alone."""

    def code(self, numbers: Numbers) -> int:
        """Return what the flow with these numbers is found by."""
        values = self._values
        for at, number in self._match:
            values[at] = numbers[number]
        return match_code(tuple(values))

    def flow_of(self, entry: PlannedEntry) -> Flow:
        """Make the flow of an entry."""
        return self._flow(_numbers(entry), entry.cookie)

    def tags_of(self, entry: PlannedEntry) -> frozenset[Tag]:
        """List the tags that an entry does not share."""
        return self._tags_of(_numbers(entry))

    def _flow(self, numbers: Numbers, cookie: int) -> Flow:
        model = self._model
        values = list(model.match.values)
        for at, number in self._match:
            values[at] = numbers[number]
        return Flow(
            model.table,
            model.priority,
            Match(model.match.fields, tuple(values)),
            tuple([self._action(one, numbers) for one in model.actions]),
            cookie,
            model.idle_timeout_s,
            model.hard_timeout_s,
            model.fin_timeout_s,
            model.notify_removed,
            model.note,
        )

    def _action(self, action: Action, numbers: Numbers) -> Action:
        number = self._actions.get(action[0])
        if number is None:
            return action
        return (action[0], numbers[number], *action[2:])

    def _render_v4(self, filled: tuple[int, ...]) -> bytes:
        cookie, source, destination, source_port, address, port = filled
        numbers = (
            V4_MAPPED | source,
            V4_MAPPED | destination,
            source_port,
            V4_MAPPED | address,
            port,
        )
        return self._render(numbers, cookie)

    def _render_v6(self, filled: tuple[int, ...]) -> bytes:
        cookie, high, low, to_high, to_low, source_port, *made = filled
        numbers = (
            high << 64 | low,
            to_high << 64 | to_low,
            source_port,
            made[0] << 64 | made[1],
            made[2],
        )
        return self._render(numbers, cookie)

    def _render(self, numbers: Numbers, cookie: int) -> bytes:
        return wire.encode_flow_mod(InstallFlow(self._flow(numbers, cookie)), 0)


def _numbers(entry: PlannedEntry) -> Numbers:
    source, destination, source_port, _ = entry.ends
    made = entry.translation
    if made is None:
        return source, destination, source_port, 0, 0
    return source, destination, source_port, made.address, made.port
