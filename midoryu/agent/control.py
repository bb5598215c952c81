# SPDX-License-Identifier: Apache-2.0
"""The agent's control socket: questions about what this agent knows.

One JSON object for each line, both ways:
{"query": "...", "arguments": {...}} -> {"result": ...} or {"error": "..."}.
`midoryu.cli.flow_state` is the other end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any, Final

from midoryu.agent.framework import hub
from midoryu.errors import ConfigError

LOG = logging.getLogger(__name__)

_MAX_LINE_BYTES: Final = 65536
_MAX_CLIENTS: Final = 32
_IDLE_TIMEOUT_S: Final = 60.0

Answer = Callable[[str, Mapping[str, str]], object]


class ControlServer:
    """Listens on a unix socket; every client has a green thread."""

    def __init__(self, path: str, answer: Answer) -> None:
        """Bind the socket.

        Raises:
            ConfigError: the path is no place for a socket, or another agent listens.
        """
        self._path = path
        self._answer = answer
        self._clients = 0
        self._socket = _listen(path)
        self._inode = os.stat(path).st_ino

    def serve(self) -> None:
        """Accept clients until `close`."""
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            if self._clients >= _MAX_CLIENTS:
                client.close()
                continue
            hub.spawn(self._client, client)

    def close(self) -> None:
        """Stop listening and remove the socket file, if it is still ours."""
        self._socket.close()
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)

    def _client(self, client: socket.socket) -> None:
        self._clients += 1
        client.settimeout(_IDLE_TIMEOUT_S)
        try:
            with client, client.makefile("rb") as lines:
                while True:
                    line = lines.readline(_MAX_LINE_BYTES + 1)
                    if not line:
                        return
                    client.sendall(reply(line, self._answer))
                    if len(line) > _MAX_LINE_BYTES:
                        return
        except OSError:
            pass  # the client went away, or said nothing for a minute
        finally:
            self._clients -= 1


def reply(line: bytes, answer: Answer) -> bytes:
    """Answer one line, whatever it holds."""
    try:
        query, arguments = _parse(line)
        value = {"result": answer(query, arguments)}
        text = json.dumps(value)
    except (ValueError, TypeError, LookupError) as error:
        words = str(error) or type(error).__name__
        text = json.dumps({"error": words})
    return text.encode() + b"\n"


def _parse(line: bytes) -> tuple[str, dict[str, str]]:
    if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f"a line has at most {_MAX_LINE_BYTES} bytes")
    try:
        value: Any = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("query"), str):
        raise ValueError('want an object like {"query": "stats", "arguments": {}}')
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ValueError("arguments must be an object")
    if set(value) - {"query", "arguments"}:
        raise ValueError(f"unknown member {min(set(value) - {'query', 'arguments'})!r}")
    return value["query"], {str(key): str(item) for key, item in arguments.items()}


def _listen(path: str) -> socket.socket:
    try:
        directory = os.path.dirname(path)
        if directory:
            os.makedirs(directory, exist_ok=True)
        _remove_stale(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Under its name only once it listens: who sees the file can connect.
        unnamed = f"{path}~"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unnamed)
        old_mask = os.umask(0o117)
        try:
            server.bind(unnamed)
        finally:
            os.umask(old_mask)
        server.listen(16)
        os.rename(unnamed, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"[agent] control_socket: {path}: {reason}") from error
    return server


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ConfigError(f"[agent] control_socket: {path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise ConfigError(f"[agent] control_socket: another agent listens on {path}")
