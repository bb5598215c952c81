# SPDX-License-Identifier: Apache-2.0
"""SYNs that nobody waits for: six seconds of silence, then an answer."""

from __future__ import annotations

from typing import Any

from midoryu.engine.unsolicited import MAX_SYNS
from tests.helpers.bench import NAT, OUTSIDE, Bench, office
from tests.helpers.frames import ICMP, Ether


def bench_with_nat(**config: Any) -> Bench:
    bench = Bench(office(masquerade=True), **config)
    bench.lease()
    return bench


def syn(bench: Bench, port: int = 6400, **fields: Any) -> bytes:
    return bench.reply(flags="S", sport=5555, dport=port, **fields)


def answers(bench: Bench, since: int) -> list[Any]:
    outs = [out for effects in bench.done[since:] for out in effects.packet_outs]
    frames = [Ether(out.frame) for out in outs]
    return [frame for frame in frames if ICMP in frame]


def test_silence_for_six_seconds_then_port_unreachable() -> None:
    bench = bench_with_nat()
    since = len(bench.done)
    bench.send("r/up", syn(bench))
    bench.wait(3.0)
    bench.send("r/up", syn(bench))
    bench.wait(2.9)
    assert answers(bench, since) == []

    bench.wait(0.2)

    (answer,) = answers(bench, since)
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)
    assert answer.payload.dst == OUTSIDE
    assert bytes(answer[ICMP].payload)[16:20] == bytes(map(int, NAT.split(".")))


def test_syn_that_is_answered_by_a_call_is_forgotten() -> None:
    bench = bench_with_nat()
    since = len(bench.done)
    bench.send("r/up", syn(bench))

    bench.send("web/vm1", bench.frame(dport=5555, sport=6400))
    bench.wait(7.0)

    assert answers(bench, since) == []
    (made,) = bench.core.connections
    assert made.translations[0].port == 6400


def test_silence_for_ever_where_that_is_wanted() -> None:
    bench = bench_with_nat(unsolicited_syn_wait_s=0.0)
    since = len(bench.done)

    bench.send("r/up", syn(bench))
    bench.wait(7.0)

    assert answers(bench, since) == []


def test_scan_is_answered_in_part_only() -> None:
    bench = bench_with_nat()
    since = len(bench.done)
    for port in range(MAX_SYNS + 20):
        bench.send("r/up", syn(bench, 2000 + port))

    bench.wait(6.1)

    assert len(answers(bench, since)) == MAX_SYNS
