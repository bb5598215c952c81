# SPDX-License-Identifier: Apache-2.0
"""Rules that log: one line for each flow, so many a second."""

from __future__ import annotations

from typing import Any

from midoryu.topology.model import Rule, RuleAction
from tests.helpers.bench import Bench, office

DROP_AND_LOG = Rule(RuleAction.DROP, ip_proto=6, log="no-tcp")


def logging_office(**config: Any) -> Bench:
    b = office()
    b.chain("in", DROP_AND_LOG)
    b.vport(
        "web/vm1",
        host="node1",
        mac="02:00:00:00:00:01",
        ip="10.0.1.1",
        up=False,
        ingress_chain="in",
    )
    return Bench(b, **config)


def lines(bench: Bench) -> list[str]:
    texts = [text for effects in bench.done for _, text in effects.log]
    return [text for text in texts if text.startswith("rule ")]


def test_line_tells_rule_verdict_ends_and_vport() -> None:
    bench = logging_office()

    bench.send("web/vm1", bench.frame(sport=40000))

    (line,) = lines(bench)
    assert line == (
        "rule no-tcp: drop by chain in: protocol 6 10.0.1.1 port 40000 -> "
        "198.51.100.9 port 80 from vport web/vm1"
    )
    assert bench.counters["rule log lines"] == 1


def test_more_lines_than_a_second_may_have_are_counted() -> None:
    bench = logging_office(rule_log_per_s=2)

    for port in range(5):
        bench.send("web/vm1", bench.frame(sport=40000 + port))
    assert len(lines(bench)) == 2
    assert bench.counters["rule log lines left out"] == 3

    bench.now += 1.0
    bench.send("web/vm1", bench.frame(sport=50000))
    assert len(lines(bench)) == 3
