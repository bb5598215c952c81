# SPDX-License-Identifier: Apache-2.0
"""The journal under SIGKILL, on a full disk, and in an agent that restarts."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midoryu.engine.effect import Effects, JournalWrite
from midoryu.engine.event import JournalRead
from tests.functional.agent_host import AgentHost, wait_for
from tests.functional.journal_writer import BURST, Journal, entry_of

WRITER = Path(__file__).parent / "journal_writer.py"
KILLS = 8


def entries(path: Path) -> tuple[list[bytes], list[str]]:
    journal = Journal(str(path), 1 << 30)
    found = [entry for chunk in journal.read() for entry, _ in chunk]
    told = [message for _, message in journal.take_reports()]
    journal.close()
    return found, told


def write_and_kill(path: Path, lines: int) -> int:
    """Kill the writer after so many lines; return what it said was in the file."""
    with subprocess.Popen(
        [sys.executable, "-u", str(WRITER), str(path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        for _ in range(lines):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout.read().splitlines(keepends=True):
            if line.endswith(b"\n"):
                said = int(line)
    return said


def test_a_killed_writer_leaves_a_whole_prefix_each_time(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    chance = random.Random(5)
    before = 0
    for _ in range(KILLS):
        said = write_and_kill(path, chance.randrange(10, 100))

        found, told = entries(path)

        assert found == [entry_of(number) for number in range(1, len(found) + 1)]
        assert len(found) >= said >= before
        assert len(found) % BURST == 0 or len(found) > said
        assert all("write-ahead log" in message for message in told)
        before = len(found)
    assert before > KILLS * BURST
    assert not list(tmp_path.glob("*.bad-*"))


def test_a_full_disk_is_told_once_and_used_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    # A disk of one megabyte, nearly full, in a mount namespace that ends with the test.
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"set -e; mount -t tmpfs -o size=1m none {disk}\n"
        f"head -c 700k /dev/zero > {disk}/other\n"
        f"(sleep 1.5; rm {disk}/other) &\n"
        f"{sys.executable} {WRITER} {disk}/j.db 3000 > {tmp_path}/out\n"
        f"cp {disk}/j.db* {tmp_path}"
    )
    # The writer has had 3,000 records long before there is room.
    subprocess.run(["unshare", "-m", "sh", "-c", script], check=True, timeout=60)

    report = [
        line
        for line in (tmp_path / "out").read_text().splitlines()
        if not line.isdigit()
    ]
    assert len(report) == 3, report
    assert "No space left on device: going on without it, trying again" in report[0]
    assert "can be used again" in report[1]
    assert report[2].startswith("all written")
    found, _ = entries(tmp_path / "j.db")
    assert found == [entry_of(number) for number in range(1, 3001)]


@pytest.fixture
def host() -> Iterator[AgentHost]:
    host = AgentHost()
    try:
        yield host
    finally:
        host.close()


def test_a_killed_agent_gets_its_records_back_before_the_switch(
    host: AgentHost,
) -> None:
    agent = host.start_agent()
    host.wait_ready()
    host.do(Effects(journal=[JournalWrite(n, entry_of(n)) for n in (1, 2, 3)]))
    wait_for(lambda: host.ask("agent")["journal"]["records_written"] == 3)
    host.do(Effects(journal=[JournalWrite(2, b"")]))
    wait_for(lambda: host.ask("agent")["journal"]["records_removed"] == 1)
    agent.kill()
    host.stop("agent")
    (host.dir / "agent.sock").unlink()

    host.start_agent()
    host.wait_ready()

    assert host.ask("events")[0].startswith("JournalRead(")
    [event] = host.events(JournalRead)
    assert sorted(entry for entry, _ in event.entries) == [entry_of(1), entry_of(3)]
    assert all(0.0 < age < 60.0 for _, age in event.entries)


def is_taken(host: AgentHost) -> bool:
    stats = host.ask("agent")["journal"]
    return bool(stats["records_waiting"] or stats["records_written"])


def test_sigterm_writes_what_waits(host: AgentHost) -> None:
    host.start_agent()
    host.wait_ready()
    host.do(Effects(journal=[JournalWrite(n, b"%d" % n) for n in range(1, 501)]))
    # The stub takes it with its next tick; most often this is within the 50 ms.
    wait_for(lambda: is_taken(host))
    host.stop("agent")

    found, _ = entries(host.dir / "journal.db")

    assert len(found) == 500


def test_a_damaged_journal_is_set_aside_by_a_starting_agent(host: AgentHost) -> None:
    (host.dir / "journal.db").write_bytes(b"no journal" * 1000)

    host.start_agent()
    host.wait_ready()

    assert host.ask("agent")["journal"]["files_set_aside"] == 1
    assert (host.dir / "journal.db.bad-1").read_bytes() == b"no journal" * 1000
    wait_for(lambda: "set aside as" in (host.dir / "agent.log").read_text())


def test_an_agent_whose_journal_is_on_a_missing_disk_goes_on(host: AgentHost) -> None:
    shutil.rmtree(host.dir / "journal.db", ignore_errors=True)
    (host.dir / "journal.db").mkdir()

    host.start_agent()
    host.wait_ready()

    assert "not a regular file" in host.ask("agent")["journal"]["state"]
