# SPDX-License-Identifier: Apache-2.0
"""Run commands, in the machine's namespace or in one of the lab's.

Every other module of the lab that makes something does it through here; long-running
processes are `process`'s.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from midoryu.lab.error import LabError


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    timeout_s: float = 30.0,
    check: bool = True,
    env: Optional[Mapping[str, str]] = None,
    directory: Optional[Path] = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its text output.

    Raises:
        LabError: the program is missing, takes longer than `timeout_s`, or (with
            `check`) ends with another status than 0.
    """
    try:
        result = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=environment(env),
            cwd=directory,
        )
    except FileNotFoundError as problem:
        raise LabError(f"`{argv[0]}` is not installed; run tools/install") from problem
    except OSError as problem:
        raise LabError(f"cannot run `{argv[0]}`: {problem}") from problem
    except subprocess.TimeoutExpired as problem:
        raise LabError(
            f"`{shlex.join(argv)}` took longer than {timeout_s:g} s"
        ) from problem
    if check and result.returncode != 0:
        raise LabError(_failure(argv, result))
    return result


def inside(namespace: str, argv: Iterable[str]) -> list[str]:
    """Return the command that runs `argv` in a network namespace."""
    return ["ip", "netns", "exec", namespace, *argv]


def script(namespace: str, commands: Iterable[Sequence[str]], what: str) -> None:
    """Run several commands in a namespace, as one shell; stop at the first failure.

    Raises:
        LabError: a command failed; names `what` and the command.
    """
    lines = [shlex.join(command) for command in commands]
    if not lines:
        return
    text = "\n".join(f"{line} || {{ echo {shlex.quote(line)} >&2; exit 1; }}"
                     for line in lines)  # fmt: skip
    result = run(inside(namespace, ["sh", "-c", text]), check=False)
    if result.returncode != 0:
        raise LabError(f"{what}: command failed: {_tail(result.stderr)}")


def environment(extra: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    """Return the environment for commands: midoryu's own programs come first."""
    own = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "")
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    base = {**os.environ, "PATH": ":".join(p for p in (own, path, system) if p)}
    return {**base, **(extra or {})}


def program(name: str) -> str:
    """Return the path of one of midoryu's own programs.

    Raises:
        LabError: it is not installed beside this interpreter.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise LabError(f"{path} does not exist; run tools/install")
    return str(path)


def _failure(argv: Sequence[str], result: subprocess.CompletedProcess[str]) -> str:
    text = _tail(result.stderr) or _tail(result.stdout)
    return f"`{shlex.join(argv)[:300]}` ended with {result.returncode}: {text}"


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:])
