# SPDX-License-Identifier: Apache-2.0
"""The rows of a very large reply, decoded one by one while they are gone through.

A whole database comes as one message. Decoded at once it is many times as large as its
text, and nobody else gets a turn meanwhile. `json_parser` asks here first.

Source: ovsdb-server(7), "Monitor_cond_since" (the reply).
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import ovs.db.error

LARGE: Final = 1 << 20
"""Characters; a smaller message is decoded at once."""
_HEAD: Final = re.compile(r'\{"id":\d+,"result":\[(?:true|false),"[0-9a-f-]{36}",')
_TAIL: Final = '}],"error":null}'
_PROBE: Final = "null"
_DECODER: Final[Any] = json.JSONDecoder()


def decode_large(text: str) -> Any:
    """Decode a reply to `monitor_cond_since`, but for its rows; None for others.

    The tables in it, and the rows of each, can be gone through once, by `items`.
    """
    head = _HEAD.match(text)
    if head is None or not text.endswith(_TAIL) or text[head.end()] != "{":
        return None
    message = json.loads(text[: head.end()] + _PROBE + _TAIL[1:])
    message["result"][2] = _Later(text, head.end(), depth=2)
    return message


class _Later(dict):  # type: ignore[type-arg]
    """A JSON object whose members are decoded when `items` comes to them."""

    def __init__(self, text: str, at: int, *, depth: int) -> None:
        super().__init__()
        self._text = text
        self._depth = depth
        self.at = at

    def items(self) -> Any:
        """Go through the members, once.

        Raises:
            ovs.db.error.Error: there is no such object.
        """
        try:
            yield from self._members()
        except (IndexError, RuntimeError, ValueError) as problem:
            raise ovs.db.error.Error(f"not JSON: {problem}") from problem

    def _members(self) -> Iterator[tuple[str, Any]]:
        text, at = self._text, self.at
        if text[at] == "{" and text[at + 1] == "}":
            self.at = at + 2
            return
        before = "{"
        while text[at] == before:
            name, at = _decode(text, at + 1)
            if text[at] != ":":
                raise ValueError(f"unexpected {text[at]!r} at {at}")
            if self._depth == 1:
                value, at = _decode(text, at + 1)
                yield name, value
            else:
                rows = _Later(text, at + 1, depth=self._depth - 1)
                yield name, rows
                if rows.at == at + 1:  # nobody wanted them
                    collections.deque(rows.items(), 0)
                at = rows.at
            before = ","
        if text[at] != "}":
            raise ValueError(f"unexpected {text[at]!r} at {at}")
        self.at = at + 1


def _decode(text: str, at: int) -> tuple[Any, int]:
    try:
        value, end = _DECODER.scan_once(text, at)
    except StopIteration as problem:
        raise ValueError(f"nothing at {problem.value}") from problem
    return value, end
