# SPDX-License-Identifier: Apache-2.0
"""Messages of one kind with holes in them: filled in a fraction of a microsecond.

A stencil is cut from what `wire` makes of examples, so that it knows nothing about the
messages themselves; `engine.express` cuts one for flows that differ in a few numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

_Picker = Callable[[tuple[int, ...]], tuple[int, ...]]
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Hole(NamedTuple):
    """A number in a message."""

    at: int
    """Offset of its first byte."""
    width: int
    """Bytes: 1, 2, 4 or 8."""
    number: int
    """Which of the numbers it is."""


class Stencil:
    """All messages that `render` can make.

    Args:
        render: makes the message for some numbers; its length is always the same, and
            each number stands in one place at most, whole bytes, nothing around it.
        widths: bytes of each number.

    Raises:
        ValueError: `render` is not like that.
    """

    __slots__ = ("_base", "_pack", "_pick", "holes", "size")

    def __init__(
        self, render: Callable[[tuple[int, ...]], bytes], widths: Sequence[int]
    ) -> None:
        low = (0,) * len(widths)
        base = render(low)
        self.size = len(base)
        """Bytes of a message."""
        holes = []
        for index, width in enumerate(widths):
            high = (1 << 8 * width) - 1
            hole = _hole(base, render((*low[:index], high, *low[index + 1 :])))
            if hole is not None:
                if hole[1] != width:
                    raise ValueError(f"number {index} takes {hole[1]} bytes")
                holes.append(Hole(*hole, index))
        self.holes = tuple(sorted(holes))
        """In the order in which they stand."""
        self._base = int.from_bytes(base, "big")
        self._pack = _packer(self.holes, self.size)
        self._pick = _picker([hole.number for hole in self.holes], len(widths))

    def fill(self, *numbers: int) -> bytes:
        """Make the message for some numbers, each within its width."""
        packed = self._pack(*self._pick(numbers))
        filled = self._base | int.from_bytes(packed, "big")
        return filled.to_bytes(self.size, "big")


def _hole(base: bytes, other: bytes) -> tuple[int, int] | None:
    """Return where a message differs from another one (offset, bytes), None: nowhere.

    Raises:
        ValueError: not in one place, or by other bits than all.
    """
    if len(base) != len(other):
        raise ValueError("messages of one kind have different lengths")
    differing = [
        at
        for at, (one, two) in enumerate(zip(base, other))  # noqa: B905
        if one != two
    ]
    if not differing:
        return None
    at, width = differing[0], len(differing)
    if differing[-1] - at != width - 1 or base[at : at + width].strip(b"\0"):
        raise ValueError(f"a number stands in several places, at {differing}")
    if other[at : at + width].strip(b"\xff"):
        raise ValueError(f"not all bits of the number at {at} are in the message")
    return at, width


def _picker(wanted: list[int], count: int) -> _Picker:
    """Return what puts the numbers that are wanted into their order."""
    if wanted == list(range(count)):
        return tuple
    if len(wanted) < 2:
        return lambda numbers: tuple(numbers[index] for index in wanted)
    picker: _Picker = itemgetter(*wanted)
    return picker


def _packer(holes: Sequence[Hole], size: int) -> Callable[..., bytes]:
    layout, end = ">", 0
    for at, width, _ in holes:
        layout += f"{at - end}x{_CODES[width]}"
        end = at + width
    return struct.Struct(f"{layout}{size - end}x").pack
