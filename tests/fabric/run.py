# SPDX-License-Identifier: Apache-2.0
"""One run: a seed decides everything; calm and disturbances take turns."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.fabric import judge
from tests.fabric.disturbance import CALM, KINDS, Kind, Scene, Steps
from tests.fabric.machine import InvariantError
from tests.fabric.net import Cloud
from tests.fabric.silence import leak, unleased
from tests.fabric.talk import RTO_S, TRIES, Traffic
from tests.fabric.world import make_world

_LIVE = 40
_NAMES = sorted(KINDS)
_OFTEN = [KINDS[name].often for name in _NAMES]


@dataclass
class Figures:
    """What a run did."""

    seed: int
    simulated_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    engines: Counter[str] = field(default_factory=Counter)
    longest_ms: dict[str, float] = field(default_factory=dict)
    """Kind of disturbance -> longest time until a message arrived."""
    slowest_agreement_s: float = 0.0
    lost: int = 0
    """Connections that did not go on when they had to."""
    violation: str = ""
    log: list[str] = field(default_factory=list)


class Run:
    """A cloud, its traffic and its bad days."""

    def __init__(self, seed: int, hosts: int, live: int = _LIVE) -> None:
        self.figures = Figures(seed)
        self.rng = random.Random(seed)
        self.cloud = Cloud(make_world(hosts, apart=seed % 3 == 0), self.rng)
        self.traffic = Traffic(self.cloud, self.rng)
        self.scene = Scene(self.cloud, self.traffic, self.rng)
        self._live = live
        self._active = 0
        self._start = self.cloud.loop.now

    def play(self, seconds: float, only: str = "") -> Figures:
        """Play for some simulated seconds, or up to the first violation."""
        figures, loop = self.figures, self.cloud.loop
        try:
            loop.run(1.5)
            self._populate()
            loop.run(1.0)
            while loop.now - self._start < seconds:
                self._episode(only)
        except InvariantError as violation:
            figures.violation = f"at {loop.now:.4f}: {violation}"
            figures.lost = sum(
                talk.under_way is not None and talk.tries >= TRIES
                for talk in self.traffic.live
            )
            figures.log = list(self.cloud.log)
        figures.simulated_s = loop.now - self._start
        figures.counts = self.traffic.counts + self.cloud.counts
        for host in self.cloud.hosts.values():
            if host.engine is not None:
                self._collect(host.engine.inspect("stats", {}, loop.now))
        figures.longest_ms = {
            label: round(gap * 1000, 1) for label, gap in self.traffic.longest.items()
        }
        return figures

    def _collect(self, stats: object) -> None:
        assert isinstance(stats, dict)
        for name, value in stats["counters"].items():
            if name in _SHOWN:
                self.figures.engines[name] += value

    def _populate(self) -> None:
        """Open connections until there are enough, a few at once."""
        traffic = self.traffic
        open_now = sum(not t.is_over for t in traffic.talks.values())
        for _ in range(min(12, self._live - open_now)):
            self.cloud.loop.after(0.3 * self.rng.random(), traffic.open)
        # Those that are long over only cost time.
        over = [n for n, t in traffic.talks.items() if t.is_over]
        for number in over[:-200]:
            traffic.forget(number)

    def _episode(self, only: str) -> None:
        rng, traffic, loop = self.rng, self.traffic, self.cloud.loop
        traffic.label = "calm"
        self._populate()
        for _ in range(3):
            loop.after(rng.random(), traffic.intruders.intrude)
        loop.run(0.3 + 0.5 * rng.random())
        count = 1 if only or rng.random() >= 0.35 else rng.randrange(2, 4)
        names = [only] if only else rng.choices(_NAMES, _OFTEN, k=count)
        kinds: dict[str, Kind] = {}
        for name in names:
            forgets = any(kind.forgets for kind in kinds.values())
            # Of two long ones, the first would wait for what the second one needs.
            rests = KINDS[name].often < 1 and len(kinds)
            if not (KINDS[name].forgets and forgets) and not rests:
                kinds[name] = KINDS[name]
        self.figures.disturbances.update(kinds.keys())
        bound = max(kind.bound_s for kind in kinds.values())
        label = "several at once" if len(kinds) > 1 else next(iter(kinds))
        traffic.label = label
        self.cloud.note(f"-- {' + '.join(kinds)}")
        if len(kinds) == 1:
            self._alone(next(iter(kinds.values())))
        else:
            self._together(list(kinds.values()))
        self.cloud.note("-- over")
        if not kinds.keys() <= {"silence", "quiet"}:
            self.cloud.disturbed_at = loop.now
        loop.run(bound)
        self._probe()
        self._agree()

    def _alone(self, kind: Kind) -> None:
        for step in kind.run(self.scene):
            if step == CALM:
                self.cloud.loop.run(0.05)
                self._probe()
            else:
                self.cloud.loop.run(step)

    def _together(self, kinds: list[Kind]) -> None:
        loop = self.cloud.loop
        self._active = len(kinds)
        for kind in kinds:
            steps = kind.run(self.scene)
            loop.after(0.5 * self.rng.random(), partial(self._step, steps))
        while self._active:
            loop.run(0.05)

    def _step(self, steps: Steps) -> None:
        pause = next(steps, None)
        if pause is None:
            self._active -= 1
            return
        self.cloud.loop.after(
            0.3 if pause == CALM else pause, partial(self._step, steps)
        )

    def _probe(self) -> None:
        """Let both ends of every live connection speak; all of it must arrive."""
        traffic, loop = self.traffic, self.cloud.loop
        traffic.is_paused = traffic.is_checking = True
        for talk in traffic.live:
            talk.tries = 0
            if not talk.is_closing:
                traffic.say(talk, returns=False)
                traffic.say(talk, returns=True)
                traffic.errors.demand(talk)
        loop.run((2 * TRIES + 3) * RTO_S)
        for talk in traffic.live:
            if talk.under_way is not None:
                raise InvariantError(f"stuck: {traffic.describe(talk)}")
        missing = traffic.errors.missing()
        if missing:
            raise InvariantError(missing)
        traffic.is_checking = False
        traffic.is_paused = False

    def _agree(self) -> None:
        self.traffic.is_paused = True
        left = leak(self.cloud, self.traffic) or unleased(self.cloud, self.traffic)
        if left:
            raise InvariantError(left)
        took = judge.check(self.cloud, self.traffic)
        self.figures.slowest_agreement_s = max(self.figures.slowest_agreement_s, took)
        self.traffic.is_paused = False


_SHOWN = (
    "records asked for",
    "questions answered",
    "connections imported",
    "connections changed",
    "connections made",
    "connections sent again",
    "connections from the journal",
    "flows adopted",
    "hosts fallen silent",
)


def play(
    seed: int,
    hosts: int,
    seconds: float,
    *,
    only: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> Figures:
    """Play one seed."""
    run = Run(seed, hosts)
    figures = run.play(seconds, only)
    progress(f"seed {seed}: {figures.violation or 'fine'}")
    return figures
