# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.openflow.stencil import Stencil


def render(numbers: tuple[int, ...]) -> bytes:
    """Make a message with the third number in front and the second one nowhere."""
    first, _, third = numbers
    return struct.pack(">HIB4xQ", 0x1234, third, 0xEE, first)


@given(st.integers(0, 2**64 - 1), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_a_filled_stencil_is_the_message(one: int, two: int, three: int) -> None:
    stencil = Stencil(render, (8, 1, 4))
    assert stencil.fill(one, two, three) == render((one, two, three))


def test_holes_are_where_the_numbers_stand() -> None:
    assert [tuple(hole) for hole in Stencil(render, (8, 1, 4)).holes] == [
        (2, 4, 2),
        (11, 8, 0),
    ]


@pytest.mark.parametrize(
    "layout",
    [
        lambda numbers: struct.pack(">HxH", *numbers * 2),
        lambda numbers: struct.pack(">H", numbers[0] & 0xFFF0),
        lambda numbers: struct.pack(">H", numbers[0] ^ 1),
        lambda numbers: bytes(2 + numbers[0] % 2),
        lambda numbers: struct.pack(">B", numbers[0] & 0xFF),
    ],
    ids=["twice", "in part", "changed", "longer", "cut"],
)
def test_a_number_that_cannot_be_filled_in_is_refused(layout: object) -> None:
    with pytest.raises(ValueError, match="number|lengths"):
        Stencil(layout, (2,))  # type: ignore[arg-type]
