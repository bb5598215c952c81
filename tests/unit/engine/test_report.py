# SPDX-License-Identifier: Apache-2.0
"""Answers for people: JSON-able, with names, and clear errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from midoryu.engine import event
from tests.helpers.bench import OUTSIDE, STATE, Bench, office


def ask(bench: Bench, query: str, **arguments: str) -> Any:
    """Ask, and take the answer through JSON as the control socket does."""
    return json.loads(json.dumps(bench.engine.inspect(query, arguments, bench.now)))


@pytest.fixture
def bench() -> Bench:
    bench = Bench(office(masquerade=True))
    bench.greet()
    bench.lease()
    bench.send("web/vm1", bench.frame())
    return bench


def test_stats_count_what_there_is(bench: Bench) -> None:
    stats = ask(bench, "stats")
    assert (stats["host"], stats["switch_connected"]) == ("node1", True)
    assert (stats["flows"], stats["records"], stats["waiting"]) == (1, 1, 0)
    assert stats["counters"]["connections made"] == 1


def test_stats_count_why_state_packets_were_refused(bench: Bench) -> None:
    assert ask(bench, "stats")["state_refused"] == {}
    for frame in (b"", b"\xff" * 90):
        bench.do(event.PacketIn(STATE, frame))
    assert ask(bench, "stats")["state_refused"] == {
        "not a state packet": 1,
        "truncated": 1,
    }


def test_a_record_is_shown_with_names_and_both_tuples(bench: Bench) -> None:
    (record,) = ask(bench, "records")
    assert record["ingress"] == "web/vm1"
    assert record["egress"] == "r/up"
    assert record["owner"] == "node1"
    assert record["interested"] == ["node1"]
    assert record["phase"] == "tcp_transitory"
    assert record["held_by_flow"] is True
    assert record["original"]["source"] == "10.0.1.1"
    (translation,) = record["translations"]
    assert translation["device"] == "r"
    assert translation["kind"] == "source"
    back = record["return"]
    assert (back["source"], back["source_port"]) == (OUTSIDE, 80)
    assert back["destination_port"] == translation["port"]
    assert ask(bench, "record", id=record["id"]) == record


def test_records_are_filtered_by_any_address_and_limited(bench: Bench) -> None:
    bench.send("web/vm2", bench.frame(2, dst="198.51.100.77"))
    assert len(ask(bench, "records")) == 2
    assert len(ask(bench, "records", address="10.0.1.2")) == 1
    assert len(ask(bench, "records", address="198.51.100.77")) == 1
    assert len(ask(bench, "records", address="203.0.113.10")) == 2
    assert ask(bench, "records", address="203.0.113.11") == []
    assert len(ask(bench, "records", limit="1")) == 1


def test_flows_are_shown_with_what_they_depend_on(bench: Bench) -> None:
    (flow,) = ask(bench, "flows")
    (record,) = ask(bench, "records")
    assert flow["connection"] == record["id"]
    assert flow["direction"] == "forward"
    assert flow["match"]["in_port"] == 11
    assert any(tag.startswith("vport/") for tag in flow["tags"])
    assert ask(bench, "flows", limit="0") == []


def test_vports_and_peers_are_named(bench: Bench) -> None:
    assert {one["vport"]: one["ofport"] for one in ask(bench, "vports")} == {
        "web/vm1": 11,
        "web/vm2": 12,
        "r/up": 13,
    }
    assert ask(bench, "peers")["node2"]["synced"] is True


def test_a_trace_tells_each_step_and_changes_nothing(bench: Bench) -> None:
    before = ask(bench, "stats")
    frame = bench.frame(sport=5).hex()
    trace = ask(bench, "trace", vport="web/vm1", frame=frame)
    assert trace["outcome"] == "forward"
    assert len(trace["steps"]) >= 2
    assert "ip_dst" in trace["fields"]
    assert ask(bench, "stats") == before


@pytest.mark.parametrize(
    ("query", "arguments", "message"),
    [
        ("nothing", {}, "known are flows, peers"),
        ("record", {}, "argument id"),
        ("record", {"id": "xyz"}, "argument id"),
        ("record", {"id": "99"}, "no record 0000000000000099"),
        ("records", {"limit": "many"}, "argument limit"),
        ("records", {"address": "here"}, "argument address"),
        ("flows", {"limit": "-1"}, "argument limit"),
        ("trace", {"vport": "no/where"}, "argument vport"),
        ("trace", {"vport": "web/vm1", "frame": "zz"}, "argument frame"),
        ("trace", {"vport": "web/vm1", "frame": "00"}, "argument frame"),
    ],
)
def test_a_wrong_question_gets_a_clear_error(
    bench: Bench, query: str, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bench.engine.inspect(query, arguments, bench.now)


def test_before_the_host_row_there_are_no_peers() -> None:
    assert ask(Bench(office(), start=False), "peers") == {}
