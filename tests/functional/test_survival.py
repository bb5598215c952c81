# SPDX-License-Identifier: Apache-2.0
"""The failure matrix on real Open vSwitch, under sessions that carry numbered data.

The events are those of `tools/survive`, in one lab; each leaves it whole for the next.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from midoryu.lab import survive_events
from midoryu.lab.survive import STREAMS, Row, Survival, line_of
from tests.functional.conftest import LABS, LabMaker

# Two cores carry the hosts, the sessions and this test: that alone makes gaps.
QUIET_MS = 400
NEW_PATH_MS = 500
# Linux doubles the wait: sent again after 0.2, 0.6, 1.4 s.
TCP_MS = 1700


@pytest.fixture(scope="module")
def survival(module_lab: LabMaker) -> Iterator[Survival]:
    running = Survival(module_lab(LABS / "survival.yaml"))
    running.start()
    yield running
    print("\n".join(line_of(row) for row in running.rows))


def happen(survival: Survival, event: str) -> Row:
    row = survive_events.EVENTS[event](survival, event)
    assert row.before == sum(map(len, STREAMS.values())), line_of(row)
    assert not row.dead, line_of(row)
    assert row.after == row.before, line_of(row)
    return row


@pytest.mark.parametrize(
    "event",
    [
        "agent SIGTERM: gateway",
        "agent SIGKILL: ingress host",
        "agent SIGKILL, no journal: gateway",
        "agent SIGKILL, no journal: backend host",
    ],
)
def test_an_agent_that_restarts_costs_no_packet(survival: Survival, event: str) -> None:
    row = happen(survival, event)
    assert row.lost_udp == 0, line_of(row)
    assert max(row.gap_tcp_ms, row.gap_udp_ms) < QUIET_MS, line_of(row)


def test_a_return_way_that_moves_costs_no_packet(survival: Survival) -> None:
    row = happen(survival, "return moves to node4 and back")
    assert row.lost_udp == 0, line_of(row)
    assert row.gap_tcp_ms < QUIET_MS, line_of(row)


@pytest.mark.parametrize("part", ["host", "link", "uplink"])
def test_sessions_outlive_their_gateway_and_its_return(
    survival: Survival, part: str
) -> None:
    death = happen(survival, f"gateway {part} dies")
    assert death.gap_udp_ms < NEW_PATH_MS, line_of(death)
    assert death.gap_tcp_ms < TCP_MS, line_of(death)
    back = happen(survival, f"gateway {part} returns")
    assert back.lost_udp == 0, line_of(back)
    assert back.gap_tcp_ms < QUIET_MS, line_of(back)


def test_sessions_resume_when_the_switch_is_back(survival: Survival) -> None:
    happen(survival, "vswitchd dies: ingress host")


def test_connections_live_while_state_packets_are_lost(survival: Survival) -> None:
    row = happen(survival, "30 % loss on state packets")
    assert row.note.startswith("50/50"), line_of(row)


def test_forged_state_packets_are_counted_and_do_nothing(survival: Survival) -> None:
    row = happen(survival, "forged state packets")
    sent, _, refused, *_ = row.note.split()
    assert int(sent) > 50
    assert int(refused) > int(sent) // 2, line_of(row)
    assert row.lost_udp == 0, line_of(row)


@pytest.mark.parametrize("what", ["joins", "leaves"])
def test_members_come_and_go_in_mid_connection(survival: Survival, what: str) -> None:
    row = happen(survival, f"member {what} the ingress set")
    assert row.lost_udp == 0, line_of(row)


@pytest.mark.parametrize("event", ["vport moves to node3", "vport moves back"])
def test_sessions_go_on_when_their_vm_moves(survival: Survival, event: str) -> None:
    happen(survival, event)


def test_a_database_that_is_away_stops_nothing(survival: Survival) -> None:
    row = happen(survival, "NSDB comes back empty")
    # For a moment it truly is empty.
    assert row.gap_tcp_ms < QUIET_MS, line_of(row)
    assert row.note.startswith("20/20"), line_of(row)
    assert "10/10 after" in row.note, line_of(row)
