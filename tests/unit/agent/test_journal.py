# SPDX-License-Identifier: Apache-2.0
"""The journal: survives any file, tells what happened, and never stands in the way.

No thread is started here: `close` then writes on the caller's own.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.agent.journal import CHUNK, Journal
from midoryu.agent.journal_file import Instant
from midoryu.engine.effect import JournalWrite

NOW = Instant(boot=7, up_s=5000.0, wall_s=1_700_000_000.0)
RECORDS = 300


def journal_of(path: Path, now: Instant = NOW, queue_limit: int = 100_000) -> Journal:
    return Journal(
        str(path), 1 << 26, lifetime_s=100.0, now=lambda: now, queue_limit=queue_limit
    )


def entry_of(id_: int) -> bytes:
    return b"record %d " % id_ + bytes(id_ % 256 for _ in range(60))


def fill(path: Path, ids: range = range(1, RECORDS + 1)) -> None:
    journal = journal_of(path)
    journal.record(JournalWrite(id_, entry_of(id_)) for id_ in ids)
    assert journal.close()
    assert journal.take_reports() == []


def entries(path: Path, now: Instant = NOW) -> dict[bytes, float]:
    journal = journal_of(path, now)
    found = dict(one for chunk in journal.read() for one in chunk)
    assert journal.close()
    return found


def warnings_of(journal: Journal) -> list[str]:
    return [text for level, text in journal.take_reports() if level == logging.WARNING]


def survive(path: Path, known: frozenset[bytes]) -> tuple[int, list[str]]:
    """Read whatever is there, then see that the journal works as a new one does."""
    journal = journal_of(path)
    found = {entry for chunk in journal.read() for entry, _ in chunk}
    journal.record([JournalWrite(1 << 40, b"from now on")])
    assert journal.close()
    assert found <= known
    assert b"from now on" in entries(path)
    return len(found), warnings_of(journal)


KNOWN = frozenset(entry_of(id_) for id_ in range(1, RECORDS + 1))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "j.db"
    fill(path)
    return path.read_bytes()


# ---------------------------------------------------------------- what is kept


def test_records_come_back_with_their_age(tmp_path: Path) -> None:
    fill(tmp_path / "j.db", range(1, 4))

    found = entries(tmp_path / "j.db", NOW._replace(up_s=NOW.up_s + 20))

    assert found == {entry_of(id_): 20.0 for id_ in range(1, 4)}


def test_an_empty_entry_forgets_the_record(tmp_path: Path) -> None:
    fill(tmp_path / "j.db", range(1, 4))
    journal = journal_of(tmp_path / "j.db")
    journal.record([JournalWrite(2, b""), JournalWrite(3, b""), JournalWrite(3, b"n")])
    assert journal.close()

    assert set(entries(tmp_path / "j.db")) == {entry_of(1), b"n"}


def test_records_are_read_in_chunks(tmp_path: Path) -> None:
    fill(tmp_path / "j.db", range(1, 2 * CHUNK + 2))

    chunks = list(journal_of(tmp_path / "j.db").read())

    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]


def test_records_past_their_lifetime_stay_out_and_are_removed(tmp_path: Path) -> None:
    fill(tmp_path / "j.db")
    late = NOW._replace(up_s=NOW.up_s + 101)
    journal = journal_of(tmp_path / "j.db", late)

    assert list(journal.read()) == []
    assert journal.close()
    assert journal.counters["records_expired"] == RECORDS


@pytest.mark.parametrize("boot", [7, 8], ids=["agent restarted", "machine restarted"])
def test_a_wall_clock_that_went_back_kills_no_record(tmp_path: Path, boot: int) -> None:
    fill(tmp_path / "j.db")

    found = entries(tmp_path / "j.db", Instant(boot, NOW.up_s, wall_s=1000.0))

    assert found == dict.fromkeys(KNOWN, 0.0)


def test_a_wall_clock_that_went_ahead_kills_no_record_of_this_boot(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "j.db")

    found = entries(tmp_path / "j.db", NOW._replace(wall_s=NOW.wall_s + 1e9))

    assert found == dict.fromkeys(KNOWN, 0.0)


# ---------------------------------------------------------------- damaged files


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=3000), as_database=st.booleans())
def test_any_bytes_as_the_file_are_survived(data: bytes, as_database: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "j.db"
        path.write_bytes(b"SQLite format 3\0" * as_database + data)

        count, told = survive(path, frozenset())

        assert count == 0
        assert len(told) == 1
        assert f"journal {path}: " in told[0]
        assert (Path(directory) / "j.db.bad-1").exists()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_changed_anywhere_never_make_a_record(
    sound: bytes, data: st.DataObject
) -> None:
    changed = bytearray(sound)
    area = data.draw(st.sampled_from([100, 4096, len(sound)]))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, area - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "j.db"
        path.write_bytes(changed)

        count, told = survive(path, KNOWN)

        assert count == RECORDS or told


CUTS = [1, 15, 16, 99, 100, 511, 512, 4095, 4096, 4097, 8192, 12_288, 20_000, -4096]


@pytest.mark.parametrize("length", CUTS)
def test_a_file_cut_short_is_told_set_aside_and_survived(
    tmp_path: Path, sound: bytes, length: int
) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(sound[:length])

    count, told = survive(path, KNOWN)

    assert count == 0
    assert len(told) == 1
    assert f"set aside as {path}.bad-1" in told[0]
    assert Path(f"{path}.bad-1").read_bytes() == sound[:length]


def test_a_file_without_its_last_byte_lacks_one_record(
    tmp_path: Path, sound: bytes
) -> None:
    # Such an end is what a kill during a checkpoint leaves; the log then repairs it.
    (tmp_path / "j.db").write_bytes(sound[:-1])

    count, told = survive(tmp_path / "j.db", KNOWN)

    assert count == RECORDS - 1
    assert len(told) == 1


def test_an_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    (tmp_path / "j.db").touch()

    assert survive(tmp_path / "j.db", frozenset()) == (0, [])


def test_one_damaged_record_costs_only_itself(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "j.db"
    changed = bytearray(sound)
    changed[changed.index(entry_of(77)) + 2] ^= 1
    path.write_bytes(changed)

    count, told = survive(path, KNOWN)

    assert count == RECORDS - 1
    assert told == [f"journal {path}: 1 records have wrong checksums and are left out"]
    again = journal_of(path)
    assert sum(len(chunk) for chunk in again.read()) == RECORDS
    assert again.take_reports() == []


# ---------------------------------------------------------------- no journal possible


def test_an_unusable_place_is_told_once_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "dir").write_text("a file where the directory should be")
    now = [NOW]
    journal = Journal(str(tmp_path / "dir" / "j.db"), 1 << 20, now=lambda: now[0])

    assert list(journal.read()) == []
    for _ in range(5):
        journal.record([JournalWrite(1, b"kept for later")])
        now[0] = now[0]._replace(up_s=now[0].up_s + 31)
        journal._step()
    told = warnings_of(journal)
    assert len(told) == 1
    assert str(tmp_path / "dir" / "j.db") in told[0]
    assert "cannot be used" in str(journal.stats()["state"])

    (tmp_path / "dir").unlink()
    assert journal.close()
    assert journal.take_reports()[-1][1].endswith("can be used again")
    assert set(entries(tmp_path / "dir" / "j.db")) == {b"kept for later"}


def test_too_many_waiting_records_drop_the_oldest(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "j.db", queue_limit=10)

    journal.record(JournalWrite(id_, entry_of(id_)) for id_ in range(1, 26))

    assert journal.close()
    assert journal.counters["records_dropped"] == 15
    assert len(warnings_of(journal)) == 1
    assert set(entries(tmp_path / "j.db")) == {entry_of(id_) for id_ in range(16, 26)}


def test_nothing_is_taken_after_the_end(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "j.db")
    assert journal.close()

    journal.record([JournalWrite(1, b"late")])

    assert entries(tmp_path / "j.db") == {}
