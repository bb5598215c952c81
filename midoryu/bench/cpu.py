# SPDX-License-Identifier: Apache-2.0
"""CPU time of a lab's hosts, by what uses it.

`network` asks before and after a load: where does a connection's time go?

Source: proc(5), /proc/pid/stat, fields 14 and 15.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from midoryu.lab import process
from midoryu.lab.lab import Lab

SWITCHES: Final = "Open vSwitch"
CONTROLLERS: Final = "agents"
_PROGRAMS: Final = {
    "ovs-vswitchd": SWITCHES,
    "ovn-controller": CONTROLLERS,
    "ryu-manager": CONTROLLERS,
}
_TICK_US: Final = 1e6 / os.sysconf("SC_CLK_TCK")


def used_us(lab: Lab) -> dict[str, float]:
    """Return the microseconds that switches and controllers have used so far."""
    used = dict.fromkeys((SWITCHES, CONTROLLERS), 0.0)
    namespaces = [lab.namespace(name) for name in lab.hosts]
    for pid in process.pids_in(namespaces):
        kind = kind_of(_words(pid))
        if kind:
            used[kind] += _ticks(pid) * _TICK_US
    return used


def kind_of(command: Iterable[str]) -> str:
    """Tell what a command line is of, "" for nothing that counts."""
    names = [Path(word).name for word in list(command)[:2]]
    return next((_PROGRAMS[name] for name in names if name in _PROGRAMS), "")


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:  # it has ended meanwhile
        return []


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
