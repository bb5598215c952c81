# SPDX-License-Identifier: Apache-2.0
"""Keys that a lost and refilled database has again."""

from __future__ import annotations

from midoryu.nsdb.key import KEYED_TABLES, key_of
from midoryu.nsdb.schema import MAX_KEY


def test_a_name_has_the_same_key_in_every_database() -> None:
    # A written-down value: an upgrade must not move keys either.
    assert key_of("Port", "web/vm1") == 8_507_251


def test_keys_fit_tunnels_and_differ_between_tables() -> None:
    names = [f"n{number}" for number in range(500)]
    keys = [key_of(table, name) for table in KEYED_TABLES for name in names]
    assert min(keys) >= 1
    assert max(keys) <= MAX_KEY
    assert len({key_of(table, "node1") for table in KEYED_TABLES}) == len(KEYED_TABLES)
