# SPDX-License-Identifier: Apache-2.0
"""The journal's file: what is written comes back, and nothing else ever does."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from midoryu.agent.journal_file import (
    DamagedError,
    Instant,
    JournalFile,
    Row,
    UnusableError,
    age_s,
    set_aside,
)

NOW = Instant(boot=7, up_s=5000.0, wall_s=1_700_000_000.0)
LIMIT = 1 << 26


def rows(count: int, written: Instant = NOW) -> dict[int, Row]:
    return {
        number: Row(b"entry %d" % number + bytes(50), written)
        for number in range(1, count + 1)
    }


def read(path: Path) -> dict[int, Row]:
    file = JournalFile(str(path), LIMIT)
    try:
        found: dict[int, Row] = {}
        for sound, damaged in file.read(100):
            found.update(sound)
            assert damaged == []
        return found
    finally:
        file.close()


def write(path: Path, *batches: dict[int, Row | None]) -> None:
    file = JournalFile(str(path), LIMIT)
    for batch in batches:
        file.write(batch)
    file.close()


@pytest.mark.parametrize("count", [1, 165, 166, 167, 1000, 2500])
def test_records_come_back_as_they_were(tmp_path: Path, count: int) -> None:
    write(tmp_path / "j.db", dict(rows(count)))

    assert read(tmp_path / "j.db") == rows(count)


@pytest.mark.parametrize("id_", [1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_an_id_has_64_bits_without_a_sign(tmp_path: Path, id_: int) -> None:
    write(tmp_path / "j.db", {id_: Row(b"x", NOW)})

    assert read(tmp_path / "j.db") == {id_: Row(b"x", NOW)}


def test_the_newest_write_of_a_record_counts(tmp_path: Path) -> None:
    later = NOW._replace(up_s=6000.0)

    write(tmp_path / "j.db", {3: Row(b"old", NOW)}, {3: Row(b"new", later)})

    assert read(tmp_path / "j.db") == {3: Row(b"new", later)}


def test_removed_records_are_gone(tmp_path: Path) -> None:
    gone: dict[int, Row | None] = dict.fromkeys(range(1, 1500))

    write(tmp_path / "j.db", dict(rows(1500)), gone)

    assert list(read(tmp_path / "j.db")) == [1500]


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    write(tmp_path / "new" / "j.db", dict(rows(1)))

    mode = os.stat(tmp_path / "new" / "j.db").st_mode
    assert stat.S_IMODE(mode) == 0o600


# ---------------------------------------------------------------- clocks


def test_the_uptime_tells_the_age_whatever_the_wall_clock_says() -> None:
    for wall_s in (0.0, NOW.wall_s - 1e8, NOW.wall_s + 1e8):
        now = Instant(NOW.boot, NOW.up_s + 12.5, wall_s)
        assert age_s(NOW, now) == 12.5


@pytest.mark.parametrize("up_s", [20.0, NOW.up_s + 1e6], ids=["early", "late"])
def test_after_a_reboot_the_wall_clock_tells_the_age(up_s: float) -> None:
    now = Instant(boot=8, up_s=up_s, wall_s=NOW.wall_s + 60.0)

    assert age_s(NOW, now) == 60.0


def test_a_wall_clock_that_went_back_makes_no_record_old() -> None:
    now = Instant(boot=8, up_s=20.0, wall_s=0.0)

    assert age_s(NOW, now) == 0.0


def test_an_uptime_that_went_back_within_one_boot_falls_back_to_the_wall() -> None:
    now = Instant(NOW.boot, 1.0, NOW.wall_s + 5.0)

    assert age_s(NOW, now) == 5.0


def test_records_past_their_lifetime_are_pruned(tmp_path: Path) -> None:
    file = JournalFile(str(tmp_path / "j.db"), LIMIT)
    other_boot = Instant(6, 9e9, NOW.wall_s - 100)
    file.write(
        {
            1: Row(b"fresh", NOW),
            2: Row(b"old", NOW._replace(up_s=NOW.up_s - 100)),
            3: Row(b"fresh by its uptime", NOW._replace(wall_s=0.0)),
            4: Row(b"old by the wall", other_boot),
            5: Row(b"from the future", other_boot._replace(wall_s=NOW.wall_s + 1e8)),
        }
    )

    removed = file.prune(60.0, NOW)

    file.close()
    assert removed == 2
    assert sorted(read(tmp_path / "j.db")) == [1, 3, 5]


def test_above_the_limit_the_oldest_records_go(tmp_path: Path) -> None:
    file = JournalFile(str(tmp_path / "j.db"), limit_bytes=1 << 20)
    for start in range(20):
        written = NOW._replace(wall_s=NOW.wall_s + start)
        file.write({start * 1000 + i: Row(bytes(80), written) for i in range(1000)})

    removed = file.evict()

    used = file.used_bytes()
    file.close()
    kept = sorted(read(tmp_path / "j.db"))
    assert used <= 1 << 20
    assert kept == list(range(removed, 20_000))


# ---------------------------------------------------------------- foreign files


def damage_of(path: Path) -> str:
    with pytest.raises(DamagedError) as caught:
        JournalFile(str(path), LIMIT)
    return str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_text("these are no records\n" * 500)

    assert damage_of(tmp_path / "j.db") == "file is not a database"


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "j.db")
    database.execute("CREATE TABLE songs (title TEXT)")
    database.close()

    assert damage_of(tmp_path / "j.db") == "not a journal of midoryu"


def test_another_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "j.db", dict(rows(3)))
    database = sqlite3.connect(tmp_path / "j.db")
    database.execute("PRAGMA user_version = 2")
    database.close()

    assert damage_of(tmp_path / "j.db") == "format version 2, want 1"


def test_more_tables_than_a_journal_has_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "j.db", dict(rows(3)))
    database = sqlite3.connect(tmp_path / "j.db")
    database.execute(
        "CREATE TRIGGER odd AFTER INSERT ON records BEGIN DELETE FROM records; END"
    )
    database.close()

    assert damage_of(tmp_path / "j.db") == "other tables than a journal has"


def test_an_error_whose_words_are_no_text_is_still_damage(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    write(path, dict(rows(3)))
    changed = path.read_bytes().replace(b"CREATE TABLE", b"CRE\xd7TE TABLE")
    path.write_bytes(changed)

    # Python up to 3.9 loses the words on its way here, later ones quote their bytes.
    words = damage_of(path)
    assert "decode" in words or words == "DatabaseError"


def test_a_record_that_somebody_changed_is_not_given_out(tmp_path: Path) -> None:
    write(tmp_path / "j.db", dict(rows(5)))
    database = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    database.execute("UPDATE records SET entry = x'00' WHERE id = 2")
    database.execute("UPDATE records SET up_ms = up_ms + 1 WHERE id = 3")
    database.execute("UPDATE records SET id = 44 WHERE id = 4")
    database.close()

    file = JournalFile(str(tmp_path / "j.db"), LIMIT)
    [(sound, damaged)] = file.read(100)
    file.close()

    assert sorted(sound) == [1, 5]
    assert sorted(damaged) == [2, 3, 44]


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_regular_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "j.db"
    os.mkdir(path) if kind == "directory" else os.mkfifo(path)

    with pytest.raises(UnusableError, match="not a regular file"):
        JournalFile(str(path), LIMIT)

    assert path.exists()


def test_pages_missing_from_the_log_are_told(tmp_path: Path) -> None:
    path, copy = tmp_path / "j.db", tmp_path / "copy.db"
    file = JournalFile(str(path), LIMIT)
    for start in range(5):
        file.write({start * 100 + i: Row(bytes(80), NOW) for i in range(100)})
    copy.write_bytes(path.read_bytes())
    log = bytearray((tmp_path / "j.db-wal").read_bytes())
    file.close()
    log[len(log) // 2] ^= 1
    (tmp_path / "copy.db-wal").write_bytes(log)

    file = JournalFile(str(copy), LIMIT)
    found = sum(len(sound) for sound, _ in file.read(5000))

    assert file.lost_pages > 0
    assert 0 < found < 500
    assert found % 100 == 0
    file.close()


# ---------------------------------------------------------------- setting aside


def test_a_file_set_aside_takes_its_log_along(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_bytes(b"a")
    (tmp_path / "j.db-wal").write_bytes(b"b")
    (tmp_path / "j.db-shm").write_bytes(b"c")

    assert set_aside(str(tmp_path / "j.db")) == str(tmp_path / "j.db.bad-1")

    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["j.db.bad-1", "j.db.bad-1-wal"]


def test_the_newest_three_are_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    for number in range(5):
        path.write_bytes(b"%d" % number)
        if number == 2:
            (tmp_path / "j.db-wal").write_bytes(b"log of 2")
        set_aside(str(path))

    found = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert found == {
        "j.db.bad-1": b"4",
        "j.db.bad-2": b"3",
        "j.db.bad-3": b"2",
        "j.db.bad-3-wal": b"log of 2",
    }
