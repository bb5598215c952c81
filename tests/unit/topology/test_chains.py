# SPDX-License-Identifier: Apache-2.0
"""Sets of prefixes, and which chains need connection state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.packet.address import Prefix, parse_ip, parse_prefix
from midoryu.topology.chains import CompiledChain, PrefixSet, compile_chain
from midoryu.topology.model import CT_NEW, Chain, Rule, RuleAction

ACCEPT, JUMP = RuleAction.ACCEPT, RuleAction.JUMP
STATEFUL = Rule(ACCEPT, ct_states=CT_NEW)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.0.0.0", True),
        ("10.0.0.255", True),
        ("10.0.1.0", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
    ],
)
def test_prefix_set(address: str, *, inside: bool) -> None:
    texts = ("10.0.0.0/24", "192.0.2.1/32", "2001:db8::/32")
    prefixes = PrefixSet(parse_prefix(text) for text in texts)

    assert (parse_ip(address) in prefixes) is inside


def test_empty_set_holds_nothing() -> None:
    assert parse_ip("10.0.0.1") not in PrefixSet(())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)), max_size=6),
    st.integers(0, 2**128 - 1),
)
def test_set_agrees_with_its_prefixes(
    pairs: list[tuple[int, int]], address: int
) -> None:
    prefixes = [Prefix(value & Prefix(0, n).mask, n) for value, n in pairs]

    assert (address in PrefixSet(prefixes)) is any(
        prefix.contains(address) for prefix in prefixes
    )


def chains(**rules: tuple[Rule, ...]) -> dict[str, Chain]:
    return {name: Chain(name, name, each) for name, each in rules.items()}


def _stateful(key: str, rows: Any) -> bool:
    return compile_chain(rows[key], rows, ()).stateful


def test_chain_is_stateful_by_its_own_rule() -> None:
    assert _stateful("a", chains(a=(Rule(ACCEPT), STATEFUL)))
    assert not _stateful("a", chains(a=(Rule(ACCEPT),)))


def test_chain_is_stateful_by_a_chain_that_it_reaches() -> None:
    rows = chains(a=(Rule(JUMP, jump="b"),), b=(Rule(JUMP, jump="c"),), c=(STATEFUL,))

    assert _stateful("a", rows)


def test_circle_of_chains_ends() -> None:
    rows = chains(a=(Rule(JUMP, jump="b"),), b=(Rule(JUMP, jump="a"),))

    assert not _stateful("a", rows)


def test_compiled_chain_keeps_its_rules_in_order() -> None:
    rules = (Rule(ACCEPT, source=(parse_prefix("10.0.0.0/8"),)), Rule(ACCEPT))

    compiled = CompiledChain(Chain("k", "n", rules, accept=False), stateful=False)

    assert tuple(each.rule for each in compiled.rules) == rules
    first, second = compiled.rules
    assert first.source is not None
    assert parse_ip("10.1.1.1") in first.source
    assert (first.destination, second.source) == (None, None)
    assert (compiled.accept, compiled.stateful) == (False, False)
