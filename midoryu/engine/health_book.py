# SPDX-License-Identifier: Apache-2.0
"""What a host's health monitors are at: which members, since when, how often.

`core` keeps one `Health`; `health` works on it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, Union

from midoryu.compat import SLOTS
from midoryu.engine.probe import Attempt
from midoryu.simulation.probe import ProbeWay
from midoryu.state.connection import Connection
from midoryu.topology.balancer import (
    CompiledPool,
    HealthMonitor,
    PoolMember,
    Probe,
    Vip,
)

# Probes of one member use these many source ports by turns.
_PORTS: Final = 4
_FIRST_PORT: Final = 32_768


@dataclass(**SLOTS)
class Watch:
    """One member that this host looks at."""

    pool: CompiledPool
    monitor: HealthMonitor
    member: PoolMember
    vip: Vip
    device: int
    next_at: float
    attempt: Union[Attempt, None] = None
    way: Union[ProbeWay, None] = None
    records: dict[int, Connection] = field(default_factory=dict)
    """By source port."""
    count: int = 0
    good: int = 0
    bad: int = 0

    @property
    def port(self) -> int:
        """Port to look at."""
        return self.monitor.port or self.member.port or self.vip.port

    @property
    def source_port(self) -> int:
        """Source port of this look."""
        base = zlib.crc32(self.member.key.encode()) % 0x1000 * _PORTS
        # A record of an echo is found without its identifier: one is enough.
        turn = 0 if self.monitor.kind is Probe.ICMP else self.count % _PORTS
        return _FIRST_PORT + base + turn


@dataclass(**SLOTS)
class Health:
    """What the monitors of this host are at."""

    watches: dict[str, Watch] = field(default_factory=dict)
    """By member."""
    by_record: dict[int, Watch] = field(default_factory=dict)
    seen: tuple[int, frozenset[int]] = (-1, frozenset())
    """Topology version and dead hosts when the watches were last thought over."""
    refresh_at: float = 0.0
