# SPDX-License-Identifier: Apache-2.0
"""Harder failures on real Open vSwitch, under sessions that carry numbered data.

What operators do (keys, pools, gateways that join), and what else may go wrong: each
process killed in turn, a full disk, clocks that jump. Events of `tools/survive`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from midoryu.lab.survive import Row, Survival, line_of
from tests.functional.conftest import LABS, LabMaker
from tests.functional.test_survival import NEW_PATH_MS, QUIET_MS, TCP_MS, happen


@pytest.fixture(scope="module")
def survival(module_lab: LabMaker) -> Iterator[Survival]:
    running = Survival(module_lab(LABS / "survival.yaml"))
    running.start()
    yield running
    print("\n".join(line_of(row) for row in running.rows))


def quiet(survival: Survival, event: str) -> Row:
    """Let something happen that must cost established connections nothing."""
    row = happen(survival, event)
    assert row.lost_udp == 0, line_of(row)
    # Agents that start at once take both cores for a moment.
    assert max(row.gap_tcp_ms, row.gap_udp_ms) < 2 * QUIET_MS, line_of(row)
    return row


def test_a_member_that_joined_takes_over_what_began_before_it(
    survival: Survival,
) -> None:
    death = happen(survival, "a member joins, then the old gateway dies")
    assert death.gap_udp_ms < NEW_PATH_MS, line_of(death)
    assert death.gap_tcp_ms < TCP_MS, line_of(death)
    assert happen(survival, "the old gateway returns").lost_udp == 0


def test_balanced_sessions_outlive_their_pool_and_their_gateway(
    survival: Survival,
) -> None:
    row = happen(survival, "pool changes, then the gateway dies")
    assert row.gap_udp_ms < NEW_PATH_MS, line_of(row)
    assert {name for name in row.gaps_ms if name.startswith("balanced")} == {
        f"balanced{kind} {protocol}"
        for kind in ("", " push")
        for protocol in ("tcp", "udp")
    }


@pytest.mark.parametrize("role", ["gateway", "ingress host"])
def test_no_connection_is_lost_when_each_process_is_killed_in_turn(
    survival: Survival, role: str
) -> None:
    happen(survival, f"every process dies in turn: {role}")


@pytest.mark.parametrize("role", ["gateway", "ingress host"])
def test_a_full_disk_under_the_journal_costs_nothing(
    survival: Survival, role: str
) -> None:
    row = quiet(survival, f"full disk under the journal: {role}")
    assert row.note.startswith("30/30 new connections"), line_of(row)
    assert " 0 failed writes" not in row.note, line_of(row)


@pytest.mark.parametrize("role", ["gateway", "ingress host"])
def test_a_clock_that_jumps_by_an_hour_costs_nothing(
    survival: Survival, role: str
) -> None:
    row = quiet(survival, f"clock jumps by an hour: {role}")
    assert row.note.startswith("30/30 new connections"), line_of(row)


def test_a_gateway_that_hears_nobody_is_left(survival: Survival) -> None:
    row = happen(survival, "nothing reaches the gateway")
    assert row.note.startswith("10/10 new connections"), line_of(row)
    assert row.gap_udp_ms < 2 * NEW_PATH_MS, line_of(row)
    assert row.gap_tcp_ms < TCP_MS, line_of(row)


def test_another_address_of_masquerade_costs_no_connection(survival: Survival) -> None:
    row = quiet(survival, "another masquerade address")
    assert row.note.startswith("20/20 new connections"), line_of(row)


def test_sessions_resume_when_a_local_database_comes_back(survival: Survival) -> None:
    happen(survival, "ovsdb-server away for 6 s, both restarted")


def test_a_key_is_replaced_without_a_gap(survival: Survival) -> None:
    row = quiet(survival, "key of flow state replaced")
    opened, rest = row.note.split("/", 1)
    assert rest.startswith(f"{opened} new connections"), line_of(row)
    assert row.note.endswith(", 0 state packets refused"), line_of(row)
