# SPDX-License-Identifier: Apache-2.0
"""First packets of one machine while another one on its host floods with new flows.

Part of suite `network`; what it is compared with is the same without the flood.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Final

from midoryu.bench import net_world as world
from midoryu.bench.report import Figure
from midoryu.lab.lab import Lab

FLOOD_PPS: Final = 8000
# `b` and `c` are on one host, `a` on another.
_CALM, _FLOODER, _SERVER = "b", "c", "a"
_FLOWS: Final = 50
_FLOOD_S: Final = 6.0
# A flood is limited after some tenths of a second, and free again 2 s after its end.
_BEGINS_S: Final = 1.0
_ENDS_S: Final = 3.0
_PYTHON: Final = ["python3", "-W", "ignore", "-m", "midoryu.bench.load"]


def measure(lab: Lab, repeat: int, tell: Callable[[str], None]) -> list[Figure]:
    """Measure first packets without and beside a flood.

    Raises:
        LabError: a load does not run.
    """
    server = world.vm_ip(_SERVER)
    _first(lab, server)
    calm, beside, lost = [], [], 0
    for turn in range(repeat):
        tell(f"{turn + 1}/{repeat} beside a flood")
        time.sleep(_ENDS_S)
        calm.append(_first(lab, server)[0])
        command = [*_PYTHON, "flood", "--to", server, "--count", str(FLOOD_PPS)]
        child = lab.popen(_FLOODER, [*command, "--seconds", str(_FLOOD_S)])
        time.sleep(_BEGINS_S)
        took, missing = _first(lab, server)
        beside.append(took)
        lost += missing
        child.communicate(timeout=_FLOOD_S + 30)
    note = f"{FLOOD_PPS} new flows/s from its host, {lost} packets lost"
    name = "beside a flood: first packet of a flow"
    return [Figure("network", name, "ms", "without it", beside, calm, note)]


def _first(lab: Lab, server: str) -> tuple[float, int]:
    command = [*_PYTHON, "first", "--to", server, "--port", str(world.PORT)]
    result = lab.exec(_CALM, [*command, "--count", str(_FLOWS)], timeout=120)
    values = json.loads(result.stdout.splitlines()[-1])
    return median(values["first"] or [float("inf")]), int(values["lost"])
