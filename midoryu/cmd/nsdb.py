# SPDX-License-Identifier: Apache-2.0
"""`midoryu-nsdb`: start, stop and look after the database server of the NSDB.

The server is the stock `ovsdb-server`; this only gives it the right file and options.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running (`status`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from midoryu.cmd.nsdb_access import listen_for_agents
from midoryu.cmd.nsdb_database import convert_online, make_database
from midoryu.cmd.nsdb_process import find_program, run_program
from midoryu.errors import ConfigError, NsdbError
from midoryu.nsdb.schema import DATABASE, SCHEMA_FILE

_STOP_SECONDS: Final = 10.0
_EVERY_ADDRESS: Final = ("0.0.0.0", "[::]", "*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (NsdbError, ConfigError) as problem:
        print(f"midoryu-nsdb: {problem}", file=sys.stderr)
    except OSError as problem:
        print(f"midoryu-nsdb: {problem}", file=sys.stderr)
    return 1


class _Run:
    """The files of a running server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.pid_file = self.directory / "nsdb.pid"
        self.log_file = self.directory / "nsdb.log"
        self.control = self.directory / "nsdb.ctl"

    def pid(self) -> int:
        """Return the server's process id, 0 when it does not run."""
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return 0
        return pid if os.fsencode(str(self.control)) in command else 0


def start(options: argparse.Namespace) -> int:
    """Make the database file where needed and start the server in the background.

    Raises:
        NsdbError: a program is missing or failed.
        ConfigError: options contradict each other.
    """
    remotes = _remotes(options)
    certificates = _certificate_options(options)
    run = _Run(options.run_dir)
    if run.pid():
        print(f"already running, process {run.pid()}")
        return 0
    run.directory.mkdir(parents=True, exist_ok=True)
    socket = options.unix.absolute()
    socket.parent.mkdir(parents=True, exist_ok=True)
    database = f"relay:{DATABASE}:{options.relay}" if options.relay else ""
    if not database:
        make_database(options.db, options.cluster_local, options.cluster_remote)
        database = str(options.db.absolute())
    run_program(
        find_program("ovsdb-server"),
        "--detach",
        "--no-chdir",
        f"--pidfile={run.pid_file}",
        f"--log-file={options.log_file or run.log_file}",
        "--verbose=console:off",
        f"--unixctl={run.control}",
        f"--remote=punix:{socket}",
        *(f"--remote={remote}" for remote in remotes),
        *certificates,
        database,
        hint=f"see {options.log_file or run.log_file}",
    )
    if not options.relay:
        convert_online(f"unix:{socket}", is_clustered=bool(options.cluster_local))
    if options.agent_ssl:
        targets = _passive_all("pssl", options.agent_ssl, options.any_address)
        listen_for_agents(f"unix:{socket}", run.control, targets)
    print(f"running, process {run.pid()}, unix:{socket}")
    return 0


def stop(options: argparse.Namespace) -> int:
    """End the server and wait until it is gone.

    Raises:
        NsdbError: it does not end.
    """
    run = _Run(options.run_dir)
    pid = run.pid()
    if not pid:
        print("not running")
        return 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            if not run.pid():
                run.pid_file.unlink(missing_ok=True)
                print("stopped")
                return 0
            time.sleep(0.02)
    raise NsdbError(f"process {pid} does not end")


def status(options: argparse.Namespace) -> int:
    """Say whether the server runs."""
    run = _Run(options.run_dir)
    pid = run.pid()
    if not pid:
        print("not running")
        return 3
    print(f"running, process {pid}, log {run.log_file}")
    if options.cluster:
        program = find_program("ovs-appctl")
        print(run_program(program, "-t", str(run.control), "cluster/status", DATABASE))
    return 0


def _remotes(options: argparse.Namespace) -> list[str]:
    remotes = [
        *_passive_all("ptcp", options.tcp, options.any_address),
        *_passive_all("pssl", options.ssl, options.any_address),
    ]
    _passive_all("pssl", options.agent_ssl, options.any_address)
    for name, texts in (("--ssl", options.ssl), ("--agent-ssl", options.agent_ssl)):
        if texts and not options.private_key:
            raise ConfigError(f"{name} needs --private-key, --certificate, --ca-cert")
    if options.agent_ssl and options.relay:
        raise ConfigError("a relay has no --agent-ssl: only the database's own servers")
    if options.cluster_remote and not options.cluster_local:
        raise ConfigError("--cluster-remote needs --cluster-local")
    if options.relay and options.cluster_local:
        raise ConfigError("a relay is no member of a cluster")
    return remotes


def _passive_all(kind: str, texts: Sequence[str], any_address: bool) -> list[str]:
    return [_passive(kind, text, any_address) for text in texts]


def _passive(kind: str, text: str, any_address: bool) -> str:
    host, _, port = text.rpartition(":")
    host = host or "127.0.0.1"
    if not (port.isdecimal() and 0 < int(port) <= 0xFFFF):
        raise ConfigError(f"{text!r} is not HOST:PORT")
    if host in _EVERY_ADDRESS and not any_address:
        raise ConfigError(
            f"{text!r} listens on every address; name one, or add --any-address"
        )
    return f"{kind}:{port}:{host}"


def _certificate_options(options: argparse.Namespace) -> list[str]:
    files = {
        "--private-key": options.private_key,
        "--certificate": options.certificate,
        "--ca-cert": options.ca_cert,
    }
    if not any(files.values()):
        return []
    for name, file in files.items():
        if not file:
            raise ConfigError(f"{name} is missing; the three go together")
    for name, file in files.items():
        if not file.is_file():
            raise ConfigError(f"{name}: {file}: no such file")
    return [f"{name}={file.absolute()}" for name, file in files.items()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="midoryu-nsdb",
        description="Run the network state database (an ovsdb-server).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    begin = commands.add_parser(
        "start", help="make the database file, start the server"
    )
    end = commands.add_parser("stop", help="end the server and wait for its end")
    look = commands.add_parser("status", help="say whether the server runs")
    for command, run in ((begin, start), (end, stop), (look, status)):
        command.set_defaults(run=run)
        command.add_argument(
            "--run-dir",
            type=Path,
            default=Path("/run/midoryu"),
            help="directory of pid file, log and control socket (%(default)s)",
        )
    look.add_argument("--cluster", action="store_true", help="show the cluster's state")
    _add_start_options(begin)
    return parser


def _add_start_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--db",
        type=Path,
        default=Path("/var/lib/midoryu/nsdb.db"),
        metavar="FILE",
        help=f"database file, made from {SCHEMA_FILE.name} if missing (%(default)s)",
    )
    add(
        "--unix",
        type=Path,
        default=Path("/run/midoryu/nsdb.sock"),
        metavar="SOCKET",
        help="socket to listen on (%(default)s)",
    )
    for kind in ("tcp", "ssl"):
        add(
            f"--{kind}",
            action="append",
            default=[],
            metavar="[HOST:]PORT",
            help=f"listen on {kind} too; the host is 127.0.0.1 if left out",
        )
    add(
        "--agent-ssl",
        action="append",
        default=[],
        metavar="[HOST:]PORT",
        help="listen on ssl for agents, who may write no topology there; the common "
        "name of an agent's certificate is its [agent] host",
    )
    add(
        "--any-address",
        action="store_true",
        help="let --tcp and --ssl listen on 0.0.0.0 or [::]",
    )
    for name, what in (
        ("--private-key", "the server's private key"),
        ("--certificate", "the server's certificate"),
        ("--ca-cert", "certificate of the authority that signs clients"),
    ):
        add(name, type=Path, metavar="PEM", help=what)
    add(
        "--cluster-local",
        default="",
        metavar="REMOTE",
        help="be a cluster member that the others reach here, tcp:HOST:PORT",
    )
    add(
        "--cluster-remote",
        action="append",
        default=[],
        metavar="REMOTE",
        help="join the cluster of this member (repeatable); else start a new one",
    )
    add(
        "--relay",
        default="",
        metavar="REMOTES",
        help="keep no file, pass on what the servers at REMOTES hold",
    )
    add("--log-file", type=Path, metavar="FILE", help="default: RUN_DIR/nsdb.log")


if __name__ == "__main__":
    sys.exit(main())
