# SPDX-License-Identifier: Apache-2.0
"""`midoryu-nsdb`: a real server started, looked at and stopped."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from midoryu.cmd import nsdb
from midoryu.errors import ConfigError
from midoryu.nsdb.remote import Certificates
from midoryu.nsdb.session import Session
from tests.functional.nsdb_server import Server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(server: Server) -> int:
    return nsdb.main(["status", f"--run-dir={server.directory}"])


def test_life_of_a_server(tmp_path: Path) -> None:
    server = Server(tmp_path)

    assert _status(server) == 3
    assert server.start() == 0
    try:
        assert _status(server) == 0
        assert server.start() == 0, "already running is no failure"
        server.session().close()
    finally:
        assert server.stop() == 0
    assert _status(server) == 3
    assert server.stop() == 0
    assert not (tmp_path / "nsdb.pid").exists()


def test_stale_pid_file_of_another_process_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "nsdb.pid").write_text(str(os.getpid()))
    server = Server(tmp_path)

    assert _status(server) == 3
    assert server.stop() == 0


def test_tcp_listens_on_loopback(tmp_path: Path) -> None:
    server, port = Server(tmp_path), _free_port()
    assert server.start("nsdb.db", f"--tcp={port}") == 0
    try:
        Session(f"tcp:127.0.0.1:{port}", timeout_s=10).close()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tcp=0.0.0.0:6640"], "listens on every address"),
        (["--tcp=[::]:6640"], "listens on every address"),
        (["--tcp=127.0.0.1:high"], "is not HOST:PORT"),
        (["--ssl=127.0.0.1:6640"], "--ssl needs --private-key"),
        (["--private-key=/nowhere/key.pem"], "--certificate is missing"),
        (["--cluster-remote=tcp:127.0.0.1:1"], "needs --cluster-local"),
    ],
)
def test_wrong_options_start_nothing(
    tmp_path: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = Server(tmp_path)

    assert server.start("nsdb.db", *options) == 1

    assert said in capsys.readouterr().err
    assert _status(server) == 3
    assert not (tmp_path / "nsdb.db").exists()


def test_file_of_another_database_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "other.ovsschema"
    schema.write_text('{"name": "Other", "version": "1.0.0", "tables": {}}')
    subprocess.run(["ovsdb-tool", "create", tmp_path / "nsdb.db", schema], check=True)

    assert Server(tmp_path).start() == 1

    assert "holds database 'Other'" in capsys.readouterr().err


def test_garbage_instead_of_a_database_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nsdb.db").write_bytes(b"\0garbage\xff" * 100)

    assert Server(tmp_path).start() == 1

    assert "ovsdb-tool failed" in capsys.readouterr().err


def test_older_schema_is_converted(tmp_path: Path) -> None:
    schema = tmp_path / "old.ovsschema"
    schema.write_text('{"name": "Midoryu", "version": "0.1.0", "tables": {}}')
    subprocess.run(["ovsdb-tool", "create", tmp_path / "nsdb.db", schema], check=True)
    server = Server(tmp_path)

    assert server.start() == 0
    try:
        assert len(server.apply("networks: {web: {}}")) == 1
    finally:
        server.stop()


def test_cluster_of_two_and_a_relay(tmp_path: Path) -> None:
    first, second, relay = (Server(tmp_path / name) for name in ("1", "2", "relay"))
    ports = [_free_port(), _free_port()]
    local = [f"--cluster-local=tcp:127.0.0.1:{port}" for port in ports]
    remote = f"--cluster-remote=tcp:127.0.0.1:{ports[0]}"
    try:
        assert first.start("nsdb.db", local[0]) == 0
        assert second.start("nsdb.db", local[1], remote) == 0
        assert relay.start("unused.db", f"--relay={first.remote}") == 0
        first.apply("networks: {web: {}}")
        assert second.apply("networks: {web: {}}") == []
        assert relay.apply("networks: {web: {}, db: {}}")
        assert first.apply("networks: {web: {}, db: {}}") == []
    finally:
        for server in (relay, second, first):
            server.stop()


def test_ssl_needs_certificates_on_both_sides(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    out = ["-subj", "/CN=test", "-keyout", key, "-out", certificate]
    subprocess.run([*make, *out], check=True, capture_output=True)
    files = [f"--private-key={key}", f"--certificate={certificate}"]
    server, port = Server(tmp_path), _free_port()
    assert server.start("db", f"--ssl={port}", *files, f"--ca-cert={certificate}") == 0
    remote = f"ssl:127.0.0.1:{port}"
    try:
        names = (str(key), str(certificate), str(certificate))
        Session(remote, timeout_s=10, certificates=Certificates(*names)).close()
        with pytest.raises(ConfigError, match="go together"):
            Session(remote, timeout_s=10)
        swapped = Certificates(str(certificate), str(key), str(certificate))
        with pytest.raises(ConfigError, match="no certificate, its key"):
            Session(remote, timeout_s=10, certificates=swapped)
    finally:
        server.stop()
