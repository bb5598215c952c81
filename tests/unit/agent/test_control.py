# SPDX-License-Identifier: Apache-2.0
"""Every line gets an answer, whatever it holds; the socket file is ours alone."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from midoryu.agent.control import ControlServer, reply
from midoryu.errors import ConfigError


def answer(query: str, arguments: Mapping[str, str]) -> object:
    """Answer like an engine with one query."""
    if query != "echo":
        raise ValueError(f"unknown query {query!r}")
    return dict(arguments)


def test_a_query_gets_its_result() -> None:
    line = b'{"query": "echo", "arguments": {"a": 1}}\n'

    assert json.loads(reply(line, answer)) == {"result": {"a": "1"}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[]\n", "want an object"),
        (b'{"query": 1}\n', "want an object"),
        (b'{"query": "echo", "arguments": []}\n', "arguments must be"),
        (b'{"query": "echo", "argument": {}}\n', "unknown member 'argument'"),
        (b'{"query": "nothing"}\n', "unknown query 'nothing'"),
        (b"[" * 60000 + b"\n", "nested too deeply"),
        (b"x" * 70000, "at most 65536 bytes"),
    ],
    ids=[
        "empty",
        "binary",
        "list",
        "number",
        "list",
        "member",
        "query",
        "deep",
        "long",
    ],
)
def test_a_bad_line_gets_an_error_in_words(line: bytes, words: str) -> None:
    (error,) = json.loads(reply(line, answer)).values()

    assert words in error


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()

    server = ControlServer(path, answer)

    with pytest.raises(ConfigError, match="another agent listens"):
        ControlServer(path, answer)
    server.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")

    with pytest.raises(ConfigError, match="is no socket"):
        ControlServer(str(path), answer)

    assert path.read_text() == "x"
