# SPDX-License-Identifier: Apache-2.0
"""The table of requirements: `requirement` puts a test's row into it.

Print it: `python -m tests.scenarios.rfc.show`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Callable, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Level(Enum):
    """How strongly it is asked for (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Row(NamedTuple):
    """One requirement."""

    rfc: int
    number: str
    asks: str
    level: Level
    answer: str
    """What midoryu does; beginning with "differs" or "not here", why."""
    test: str
    """Name of the test; "" where there is nothing to test."""


MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY
TABLE: list[Row] = []


def requirement(
    rfc: int, number: str, level: Level, asks: str, answer: str = "does so"
) -> Callable[[F], F]:
    """Say which requirement a test is about."""

    def add(test: F) -> F:
        TABLE.append(Row(rfc, number, asks, level, answer, test.__name__))
        return test

    return add


def not_here(rfc: int, number: str, level: Level, asks: str, why: str) -> None:
    """Add a row that has no test, and why."""
    TABLE.append(Row(rfc, number, asks, level, f"not here: {why}", ""))
