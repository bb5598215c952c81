# SPDX-License-Identifier: Apache-2.0
"""The lab's NSDB: one `midoryu-nsdb` in a namespace of its own.

`lab` starts it and applies the topology; hosts reach it by unix socket, or with
`nsdb: {listen: tcp}` over the underlay.
"""

from __future__ import annotations

import json
from typing import Any

from midoryu.lab import process
from midoryu.lab.error import LabError
from midoryu.lab.shell import inside, program, run
from midoryu.lab.spec import LabSpec
from midoryu.lab.store import Store

TCP_PORT = 6641


class NsdbNode:
    """The database server of one lab."""

    def __init__(self, spec: LabSpec, store: Store) -> None:
        self.spec = spec
        self.namespace = store.namespace("nsdb")
        self.directory = store.node_directory("nsdb")
        self.remote = f"unix:{self.directory}/nsdb.sock"

    def start(self) -> None:
        """Start the server if it does not run.

        Raises:
            LabError: it does not start.
        """
        if self.is_running():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [program("midoryu-nsdb"), "start"]
        command += ["--db", f"{self.directory}/nsdb.db"]
        command += ["--unix", f"{self.directory}/nsdb.sock"]
        command += ["--run-dir", str(self.directory)]
        if self.spec.nsdb.tcp:
            ip = self.spec.nsdb.ip
            listen = f"[{ip}]" if ":" in ip else ip
            command += ["--tcp", f"{listen}:{TCP_PORT}"]
        run(inside(self.namespace, command))

    def kill(self) -> None:
        """Kill the server (-9); its data stays."""
        process.end_all([self.namespace])

    def is_running(self) -> bool:
        """Tell whether a server runs."""
        return bool(process.pids_in([self.namespace]))

    def ctl(self, *arguments: str, check: bool = True) -> str:
        """Run midoryu-ctl on this database; return what it prints.

        Raises:
            LabError: it failed; carries what it said.
        """
        command = [program("midoryu-ctl"), "--db", self.remote, *arguments]
        result = run(command, check=False)
        if check and result.returncode != 0:
            raise LabError((result.stderr or result.stdout).strip())
        return result.stdout

    def show(self) -> Any:
        """Return what `midoryu-ctl show` knows, as JSON values.

        Raises:
            LabError: it failed, or printed something else.
        """
        text = self.ctl("show", "--format", "json")
        try:
            return json.loads(text)
        except ValueError as problem:
            raise LabError(f"midoryu-ctl show: no JSON: {problem}") from problem
