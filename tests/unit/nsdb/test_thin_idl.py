# SPDX-License-Identifier: Apache-2.0
"""What the server tells is kept; what it tells again is no news. No server needed."""

from __future__ import annotations

import uuid
from typing import Any

from midoryu.nsdb.replica import Replica
from midoryu.nsdb.thin_idl import PAUSE_ROWS, ThinIdl
from midoryu.topology.model import Gone, Host, Put

ONE = "11111111-1111-1111-1111-111111111111"
TWO = "22222222-2222-2222-2222-222222222222"
HOSTS = {
    ONE: {"initial": {"key": 1, "name": "a"}},
    TWO: {"initial": {"key": 2, "name": "b"}},
}


def idl() -> ThinIdl:
    return ThinIdl("unix:/nobody/listens/here")


def tell(idl: ThinIdl, update: dict[str, Any]) -> set[tuple[str, str]]:
    """Tell of rows as the session does; return which may have changed."""
    idl.dirty = set()
    idl._Idl__parse_update({t: dict(rows) for t, rows in update.items()}, "update3")
    return idl.dirty


def names(idl: ThinIdl) -> set[str]:
    return {view.name for view in idl.store["Host"].views()}


def test_rows_come_change_and_go() -> None:
    one = idl()

    assert tell(one, {"Host": HOSTS}) == {("Host", ONE), ("Host", TWO)}
    assert tell(one, {"Host": {ONE: {"modify": {"name": "c"}}}}) == {("Host", ONE)}
    assert tell(one, {"Host": {TWO: {"delete": None}}}) == {("Host", TWO)}
    assert names(one) == {"c"}


def test_rows_of_the_first_protocol_are_understood() -> None:
    one = idl()

    tell(one, {"Host": {ONE: {"new": {"key": 1, "name": "a"}}}})
    tell(one, {"Host": {ONE: {"old": {"name": "a"}, "new": {"key": 1, "name": "c"}}}})
    assert names(one) == {"c"}

    tell(one, {"Host": {ONE: {"old": {"key": 1, "name": "c"}}}})
    assert names(one) == set()


def test_a_database_told_again_changes_only_what_differs() -> None:
    one = idl()
    tell(one, {"Host": HOSTS})

    one._Idl__clear()
    changed = {ONE: HOSTS[ONE], "3" + TWO[1:]: {"initial": {"key": 3, "name": "c"}}}

    assert tell(one, {"Host": changed}) == {("Host", TWO), ("Host", "3" + TWO[1:])}
    assert names(one) == {"a", "c"}


def test_a_row_that_does_not_fit_is_reported_and_hides_no_other() -> None:
    one = idl()
    replica = Replica(one.store, one.problems)
    bad = {ONE: {"initial": {"key": "one", "name": "a"}}, TWO: HOSTS[TWO]}

    changes = replica.update(tell(one, {"Host": bad, "Unheard_Of": {}}))

    assert changes == (Put(Host(2, "b", 0)),)
    assert replica.bad_rows == 1

    tell(one, {"Host": {ONE: {"insert": {"key": 1, "name": "a"}}}})
    assert one.problems == {}


def test_a_change_of_a_row_that_nobody_told_of_is_reported() -> None:
    one = idl()

    tell(one, {"Host": {ONE: {"modify": {"name": "a"}}}})

    assert "before" in one.problems["Host", ONE]


def test_a_deleted_row_is_gone_for_the_engine() -> None:
    one = idl()
    replica = Replica(one.store, one.problems)
    replica.update(tell(one, {"Host": HOSTS}))

    changes = replica.update(tell(one, {"Host": {ONE: {"delete": None}}}))

    assert changes == (Gone(Host, 1),)
    assert replica.uuid(Host, "b") == TWO


def test_a_transaction_finds_rows_and_not_those_that_it_deleted() -> None:
    one = idl()
    tell(one, {"Host": HOSTS})
    rows = one.tables["Host"].rows

    row = rows.get(ONE)
    assert (row.uuid, row.name, row.underlay) == (uuid.UUID(ONE), "a", [])
    assert rows.get(row.uuid) is row

    del rows[row.uuid]
    assert rows.get(ONE) is None
    rows.forget()
    assert rows.get(ONE).key == 1


def test_what_each_write_of_operators_changes_is_not_read() -> None:
    one = ThinIdl("unix:/nobody/listens/here")

    assert "next_key" in one.tables["Cloud"].columns
    assert "revision" not in one.tables["Cloud"].columns


def test_others_get_their_turn_while_very_many_rows_are_read() -> None:
    turns: list[None] = []
    one = ThinIdl("unix:/nobody/listens/here", lambda: turns.append(None))

    tell(one, {"Host": {str(uuid.UUID(int=n)): {"initial": {"key": n, "name": f"{n}"}}
                        for n in range(4 * PAUSE_ROWS)}})  # fmt: skip

    assert len(turns) == 4
