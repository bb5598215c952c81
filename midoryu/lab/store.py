# SPDX-License-Identifier: Apache-2.0
"""What a lab remembers on disk: its plan, its values, one directory per node.

`lab` writes the plan before the first namespace is made, so that `down` finds the rest
of a lab whose maker died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Optional

from midoryu.compat import SLOTS
from midoryu.lab.error import LabError
from midoryu.lab.process import start_time
from midoryu.lab.spec import LabSpec

DEFAULT_DIRECTORY = "/run/midoryu-lab"
# A unix socket's path has at most 107 bytes; what the lab adds fits in the rest.
# Source: unix(7), sun_path.
_MAX_PATH_BYTES = 50
_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")


@dataclass(frozen=True, **SLOTS)
class Plan:
    """Everything of a lab that `down` has to remove, and how far `up` came."""

    namespaces: tuple[str, ...]
    phase: str
    """`starting` or `up`."""
    maker_pid: int
    maker_start_time: str
    """Of the process that brings the lab up; together they name it for good."""
    agents: bool
    """Whether the lab runs agents (not with --no-agents)."""

    def maker_is_alive(self) -> bool:
        """Tell whether the process that brings the lab up still runs."""
        return (
            self.maker_start_time != ""
            and start_time(self.maker_pid) == self.maker_start_time
        )


class Store:
    """The state directory of one lab."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(
                f"lab name `{name}`: must be a-z and up to nine more of a-z, 0-9"
            )
        self.name = name
        self.parent = Path(os.environ.get("MIDORYU_LAB_DIR") or DEFAULT_DIRECTORY)
        self.directory = self.parent.absolute() / name
        if len(os.fsencode(self.directory)) > _MAX_PATH_BYTES:
            raise LabError(
                f"{self.directory}: too long for unix sockets below it "
                f"(at most {_MAX_PATH_BYTES} bytes); set MIDORYU_LAB_DIR"
            )

    def namespace(self, node: str) -> str:
        """Return the name of a node's network namespace."""
        return f"{self.name}.{node}"

    def node_directory(self, node: str) -> Path:
        """Return where a node keeps its files."""
        return self.directory / "nodes" / node

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from changing the same lab meanwhile.

        Raises:
            LabError: another process holds it, or the directory cannot be made.
        """
        descriptor = self._lock()
        try:
            yield
        finally:
            os.close(descriptor)

    def plan(self) -> Optional[Plan]:
        """Return the plan, or None when no lab of this name exists.

        Raises:
            LabError: the plan on disk is damaged.
        """
        path = self.directory / "plan.json"
        try:
            values = json.loads(path.read_text())
            return Plan(**{**values, "namespaces": tuple(values["namespaces"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as problem:
            raise LabError(f"{path}: damaged: {problem}") from problem

    def begin(self, spec: LabSpec, namespaces: tuple[str, ...], agents: bool) -> None:
        """Write down what is about to be made."""
        with open(self.directory / "spec.pickle", "wb") as file:
            pickle.dump(spec, file)
        (self.directory / "nodes").mkdir(exist_ok=True)
        pid = os.getpid()
        self._write(Plan(namespaces, "starting", pid, start_time(pid), agents))

    def finish(self) -> None:
        """Write down that everything is up."""
        plan = self.plan()
        if plan is None:
            raise LabError(f"lab `{self.name}` was taken down while it came up")
        self._write(replace(plan, phase="up"))

    def spec(self) -> LabSpec:
        """Return the values of the lab that is up.

        Raises:
            LabError: there is none, or another version of midoryu made it.
        """
        if self.plan() is None:
            raise LabError(f"no lab `{self.name}` is up; see tools/lab up --help")
        try:
            with open(self.directory / "spec.pickle", "rb") as file:
                spec = pickle.load(file)
        except (OSError, pickle.PickleError, AttributeError, EOFError) as problem:
            raise LabError(
                f"lab `{self.name}` cannot be read ({problem}); tools/lab down"
            ) from problem
        if not isinstance(spec, LabSpec):
            raise LabError(f"lab `{self.name}` cannot be read; tools/lab down")
        return spec

    def remove(self) -> None:
        """Remove every file of the lab."""
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            raise LabError(f"{self.directory} cannot be removed")
        with contextlib.suppress(OSError):
            self.parent.rmdir()

    def _write(self, plan: Plan) -> None:
        path = self.directory / "plan.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(plan), indent=1) + "\n")
        os.replace(fresh, path)

    def _lock(self) -> int:
        """Lock the directory itself: a lock file would stay behind."""
        for _ in range(100):
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # removed by the one before us
            except OSError as problem:
                raise LabError(f"{self.directory}: {problem.strerror}") from problem
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as problem:
                os.close(descriptor)
                raise LabError(
                    f"another process is changing lab `{self.name}`"
                ) from problem
            if _is_same(descriptor, self.directory):
                return descriptor
            os.close(descriptor)
        raise LabError(f"{self.directory} cannot be locked")


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
