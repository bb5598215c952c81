# SPDX-License-Identifier: Apache-2.0
"""Faults, ticks and effects around an engine that a test scripts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest

from midoryu.agent.driver import Driver
from midoryu.engine.effect import Effects, JournalWrite, LearnMac
from midoryu.engine.event import Event, JournalRead, PacketIn, SwitchDisconnected, Tick


class Scripted:
    """Returns what the test put in for each kind of event."""

    def __init__(self, script: dict[type, Effects | Exception]) -> None:
        self.script = script
        self.events: list[Event] = []

    def handle(self, event: Event, now: float) -> Effects:
        self.events.append(event)
        found = self.script.get(type(event), Effects())
        if isinstance(found, Exception):
            raise found
        return found

    def take(self, event: PacketIn, effects: Effects, now: float) -> None:
        self.events.append(event)
        effects.log.append((logging.ERROR, f"took {event.frame!r}"))
        if event.frame == b"odd":
            raise RuntimeError("odd")

    def finish(self, effects: Effects, now: float) -> None:
        effects.log.append((logging.ERROR, "finished"))

    def inspect(self, query: str, arguments: Mapping[str, str], now: float) -> object:
        return query


class Timers:
    """Notes what is to be called later."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> Timers:
        self.calls.append((seconds, call))
        return self

    def cancel(self) -> None:
        self.calls.pop()


def driver_of(
    script: dict[type, Effects | Exception],
) -> tuple[Driver, Scripted, Timers]:
    engine, timers = Scripted(script), Timers()

    def fail(reason: str) -> None:
        raise SystemExit(reason)

    return Driver(engine, call_later=timers.later, fail=fail), engine, timers


def test_a_fault_in_one_packet_is_counted_and_logged_once(caplog) -> None:
    driver, engine, _ = driver_of({PacketIn: RuntimeError("odd")})

    for _ in range(3):
        driver.handle(PacketIn(1, b""))

    assert driver.counters["faults"] == 3
    assert len(engine.events) == 3
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1


def test_a_fault_in_one_of_several_packets_leaves_the_others_alone(caplog) -> None:
    driver, engine, _ = driver_of({})

    driver.handle_packets([PacketIn(1, b"a"), PacketIn(2, b"odd"), PacketIn(3, b"b")])

    assert [event.in_port for event in engine.events] == [1, 2, 3]
    assert driver.counters["faults"] == 1
    said = [r.getMessage() for r in caplog.records if r.name == "midoryu.engine"]
    assert said == ["took b'a'", "took b'odd'", "took b'b'", "finished"]


def test_a_fault_in_what_the_agent_stands_on_ends_the_process() -> None:
    driver, _, _ = driver_of({SwitchDisconnected: RuntimeError("odd")})

    with pytest.raises(SystemExit, match="SwitchDisconnected"):
        driver.handle(SwitchDisconnected())


def test_a_tick_comes_at_the_earliest_deadline() -> None:
    driver, engine, timers = driver_of({PacketIn: Effects(deadline=0.0)})

    driver.handle(PacketIn(1, b""))
    driver.handle(PacketIn(1, b""))
    ((wait_s, fire),) = timers.calls
    fire()

    assert 0 < wait_s < 0.1
    assert engine.events[-1] == Tick()


def test_ticks_go_on_after_a_fault_in_one() -> None:
    driver, _, timers = driver_of(
        {PacketIn: Effects(deadline=0.0), Tick: RuntimeError("odd")}
    )
    driver.handle(PacketIn(1, b""))

    timers.calls.pop()[1]()

    assert timers.calls[0][0] == pytest.approx(1.0, abs=0.1)


def test_records_go_to_the_journal_and_its_counters_to_who_asks() -> None:
    write = JournalWrite(7, b"entry")
    driver, _, _ = driver_of({PacketIn: Effects(journal=[write])})
    written: list[JournalWrite] = []
    driver.journal = written.extend
    driver.journal_stats = lambda: {"records_written": len(written)}

    driver.handle(PacketIn(1, b""))

    answer = driver.inspect("agent", {})
    assert written == [write]
    assert isinstance(answer, dict)
    assert answer["journal"] == {"records_written": 1}


def test_a_journal_that_the_engine_stumbles_over_does_not_end_the_agent() -> None:
    driver, _, _ = driver_of({JournalRead: RuntimeError("odd")})

    driver.handle(JournalRead(((b"entry", 1.0),)))

    assert driver.counters["faults"] == 1


def test_writes_go_to_the_database_and_warnings_to_the_log_once(caplog) -> None:
    write = LearnMac(1, 2, 3)
    effects = Effects(nsdb_writes=[write], log=[(logging.WARNING, "pool 7 is short")])
    driver, _, _ = driver_of({PacketIn: effects})
    written: list[object] = []
    driver.write = written.extend

    driver.handle(PacketIn(1, b""))
    driver.handle(PacketIn(1, b""))

    assert written == [write, write]
    assert [r.message for r in caplog.records] == ["pool 7 is short"]


def test_a_question_about_the_agent_itself_is_answered_by_the_rim() -> None:
    driver, _, _ = driver_of({})

    answer = driver.inspect("agent", {})

    assert isinstance(answer, dict)
    assert answer["switch_ready"] is False
    assert driver.inspect("stats", {}) == "stats"
