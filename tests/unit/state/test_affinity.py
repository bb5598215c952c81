# SPDX-License-Identifier: Apache-2.0
"""Clients keep their members for their time, in bounded memory."""

from __future__ import annotations

from midoryu.state.affinity import AffinityTable
from midoryu.state.connection import Connection, Phase
from midoryu.state.table import ConnectionTable

A, B = (1, 80), (2, 80)


def note(table: AffinityTable, source: int, member: tuple[int, int], at: float) -> None:
    table.note(("p", source), member, connection=source, used=at, timeout_s=10.0)


def record(number: int) -> Connection:
    return Connection(number, 6, (1, 2, 3, 4), 1, 1, 1, 2, (), 1, Phase.TCP_ESTABLISHED)


def test_a_client_is_known_until_its_time_is_over() -> None:
    table, none = AffinityTable(), ConnectionTable()
    note(table, 1, A, 100.0)
    assert table.deadline() == 110.0
    table.expire(109.9, none)
    assert table.find("p", 1) == A
    assert table.find("other", 1) is None
    table.expire(110.0, none)
    assert (table.find("p", 1), len(table), table.deadline()) == (None, 0, None)


def test_a_later_use_counts_and_may_change_the_member() -> None:
    table, none = AffinityTable(), ConnectionTable()
    note(table, 1, A, 100.0)
    note(table, 1, B, 105.0)
    note(table, 1, A, 104.0)
    table.expire(112.0, none)
    assert table.find("p", 1) == B
    table.expire(115.0, none)
    assert table.find("p", 1) is None


def test_a_connection_in_use_keeps_its_client() -> None:
    table, connections = AffinityTable(), ConnectionTable()
    connections.insert(record(1), 100.0)
    connections.hold(1)
    note(table, 1, A, 100.0)
    table.expire(150.0, connections)
    assert table.find("p", 1) == A
    connections.release(1, 155.0)
    table.expire(164.0, connections)
    assert table.find("p", 1) == A
    table.expire(165.1, connections)
    assert table.find("p", 1) is None


def test_a_full_table_forgets_who_came_first() -> None:
    table = AffinityTable(max_clients=2)
    for source in (1, 2, 3):
        note(table, source, A, 100.0 + source)
    assert [table.find("p", source) for source in (1, 2, 3)] == [None, A, A]


def test_clients_of_one_member_are_forgotten_together() -> None:
    table = AffinityTable()
    note(table, 1, A, 100.0)
    note(table, 2, B, 100.0)
    table.forget_member("p", A)
    assert (table.find("p", 1), table.find("p", 2)) == (None, B)
