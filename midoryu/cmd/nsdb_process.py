# SPDX-License-Identifier: Apache-2.0
"""Run Open vSwitch's programs and say plainly what went wrong.

`nsdb` and `nsdb_database` use it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

from midoryu.errors import NsdbError

_SYSTEM_DIRECTORIES: Final = "/usr/sbin:/sbin:/usr/local/sbin"


def find_program(name: str) -> str:
    """Find a program in PATH or among the system's.

    Raises:
        NsdbError: it is not installed.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_DIRECTORIES}"
    found = shutil.which(name, path=path)
    if found is None:
        raise NsdbError(f"{name} is not in PATH; install Open vSwitch")
    return found


def run_program(*command: str, hint: str = "") -> str:
    """Run a program to its end and return what it printed.

    Raises:
        NsdbError: it failed; the text has what it said.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or hint
        name = os.path.basename(command[0])
        raise NsdbError(f"{name} failed ({done.returncode}): {said}")
    return done.stdout.strip()
