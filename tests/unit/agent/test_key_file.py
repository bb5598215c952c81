# SPDX-License-Identifier: Apache-2.0
"""Keys are read from a file, and again when it changes; a bad file changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from midoryu.agent.key_file import KeyFile, Keys, read_keys
from midoryu.errors import ConfigError

ONE, TWO = "11" * 16, "22" * 32


def test_each_line_is_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{ONE}\n\n{TWO}\n")
    assert read_keys(str(path)) == (b"\x11" * 16, b"\x22" * 32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no key"),
        (b"11" * 15, "key 1 has 15 bytes, want 16 to 32"),
        (b"11" * 16 + b"\n" + b"11" * 33, "key 2 has 33 bytes"),
        (b"secret", "key 1 is not hexadecimal"),
        (b"\xff\xfe", "is no text file"),
        (None, "No such file"),
    ],
)
def test_a_file_without_keys_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_keys(str(path))


def test_changed_keys_are_told_once(tmp_path: Path) -> None:
    path, told = tmp_path / "keys", list[Keys]()
    path.write_text(ONE)
    file = KeyFile(str(path), read_keys(str(path)), told.append)
    file.look()
    assert told == []
    path.write_text(f"{TWO}\n{ONE}")
    file.look()
    file.look()
    assert told == [(b"\x22" * 32, b"\x11" * 16)]


def test_a_bad_file_is_logged_once_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, told = tmp_path / "keys", list[Keys]()
    path.write_text(ONE)
    file = KeyFile(str(path), read_keys(str(path)), told.append)
    with caplog.at_level(logging.ERROR):
        path.write_text("half a k")
        file.look()
        file.look()
        path.unlink()
        file.look()
    assert told == []
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "key 1 is not hexadecimal" in lines[0]
    path.write_text(TWO)
    file.look()
    assert told == [(b"\x22" * 32,)]
