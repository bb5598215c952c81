# SPDX-License-Identifier: Apache-2.0
"""JSON from a stream at the speed of the standard library's C decoder.

Package `ovs` reads JSON character by character in Python unless it was built with its C
extension, which wheels are not: 30 MB of a large database would take a minute, and the
server would close the silent connection meanwhile. This parser offers the same three
methods to `ovs.jsonrpc`; it only finds where a message ends.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, Final

import ovs.json

from midoryu.nsdb.json_rows import LARGE, decode_large

_ESCAPE: Final = re.compile(r"\\.", re.DOTALL)
_OTHER: Final = re.compile(r"[^][{}]+")
_MAX_CHARACTERS: Final = 1 << 30
# Others get their turn after so many pieces; `ovs.jsonrpc` reads 4 kB at a time.
_PAUSE_PARTS: Final = 64


class StreamParser:
    """Collects one JSON object or array and decodes it when it is whole."""

    def __init__(
        self, check_trailer: bool = False, pause: Callable[[], None] = lambda: None
    ) -> None:
        self._pause = pause
        self._parts: list[str] = []
        self._size = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._done = False

    def feed(self, text: str) -> int:
        """Take in text and return how many characters belong to this message."""
        if self._done:
            return 0
        used = self._skim(text) or self._scan(text)
        self._parts.append(text[:used])
        self._size += used
        if not len(self._parts) % _PAUSE_PARTS:
            self._pause()
        if self._size > _MAX_CHARACTERS:
            self._done = True
        return used

    def is_done(self) -> bool:
        """Tell whether the message is whole."""
        return self._done

    def finish(self) -> Any:
        """Return the decoded message, or a sentence about what is wrong with it."""
        text = "".join(self._parts)
        self._parts.clear()
        try:
            large = decode_large(text) if len(text) >= LARGE else None
            return json.loads(text) if large is None else large
        except ValueError as problem:
            return f"not JSON: {problem}"
        except RecursionError:
            return "not JSON that can be read: nested too deeply"

    def _skim(self, text: str) -> int:
        """Take all of a text that cannot hold the end; 0 when it may."""
        if self._escaped or self._depth == 0 or text.endswith("\\"):
            return 0
        plain = _ESCAPE.sub("", text) if "\\" in text else text
        pieces = plain.split('"')
        outside = "".join(pieces[1 if self._in_string else 0 :: 2])
        depth = self._depth
        for bracket in _OTHER.sub("", outside):
            depth += 1 if bracket in "{[" else -1
            if depth == 0:
                return 0
        self._depth = depth
        self._in_string ^= len(pieces) % 2 == 0
        return len(text)

    def _scan(self, text: str) -> int:
        for position, character in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character in "{[":
                self._depth += 1
            elif character == '"':
                self._in_string = True
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self._done = True
                    return position + 1
            elif self._depth == 0 and not character.isspace():
                self._done = True
                return position + 1
        return len(text)


def use_fast_parser(pause: Callable[[], None] = lambda: None) -> None:
    """Let `ovs.jsonrpc` of this process read with `StreamParser`.

    A build of `ovs` that has its own C parser keeps it. `pause` is called now and then
    while a large message comes: it may let other green threads run.
    """
    if getattr(ovs.json, "PARSER", None) != getattr(ovs.json, "PARSER_C", object()):
        ovs.json.Parser = functools.partial(StreamParser, pause=pause)
