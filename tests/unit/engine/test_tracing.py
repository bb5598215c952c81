# SPDX-License-Identifier: Apache-2.0
"""Traces: where a described packet would go, why, and that nothing changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.bench import NAT, OUTSIDE, Bench, office


@pytest.fixture
def bench() -> Bench:
    bench = Bench(office(masquerade=True))
    bench.greet()
    bench.lease()
    return bench


def trace(bench: Bench, vport: str = "web/vm1", **arguments: str) -> Any:
    """Trace a packet, TCP from vm1 to outside where nothing else is said."""
    told = {
        "proto": "tcp",
        "source": "10.0.1.1",
        "source_port": "4000",
        "destination": OUTSIDE,
        "destination_port": "80",
        **arguments,
    }
    answer = bench.engine.inspect("trace", {"vport": vport, **told}, bench.now)
    return json.loads(json.dumps(answer))


def test_a_described_packet_goes_where_a_real_one_would(bench: Bench) -> None:
    told = trace(bench)

    assert told["outcome"] == "forward"
    assert told["leaves_by"] == [{"vport": "r/up", "host": "node1"}]
    assert told["leaves_as"]["source"] == NAT
    assert told["leaves_as"]["ttl"] == 63
    assert told["record"] == "would be made"
    assert [step["verb"] for step in told["steps"]].count("nat") == 1


def test_a_neighbour_gets_it_without_a_router(bench: Bench) -> None:
    told = trace(bench, destination="10.0.1.2")

    assert told["leaves_by"] == [{"vport": "web/vm2", "host": "node1"}]
    assert told["leaves_as"] == told["came_as"]


def test_an_open_connection_is_recognized(bench: Bench) -> None:
    bench.send("web/vm1", bench.frame())
    (record,) = bench.core.connections
    source, destination, source_port, destination_port = record.original

    told = trace(bench, source_port=str(source_port), flags="ack")

    assert told["record"] == f"{record.id:016x}, forward direction"
    assert told["leaves_as"]["source_port"] == record.translations[0].port


def test_a_trace_changes_nothing(bench: Bench) -> None:
    before = bench.engine.inspect("stats", {}, bench.now)
    ports = {trace(bench, source_port=str(port))["outcome"] for port in range(1, 200)}

    assert ports == {"forward"}
    assert bench.engine.inspect("stats", {}, bench.now) == before
    assert not list(bench.core.connections)


def test_an_answer_of_a_device_is_told(bench: Bench) -> None:
    told = trace(bench, proto="icmp", destination="10.0.1.254", ttl="1")

    assert (told["outcome"], told["answers"]) == ("consumed", 1)


def test_what_a_packet_would_wait_for_is_named() -> None:
    bench = Bench(office(masquerade=True))
    bench.greet()

    told = trace(bench)

    assert told["outcome"] == "blocked"
    assert NAT in told["waits_for"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"vport": "no/where"},
        {"proto": "tpc"},
        {"source": "here"},
        {"destination": "2001:db8::1"},
        {"destination_port": "65536"},
        {"flags": "urgent"},
        {"ttl": "-1"},
        {"source_mac": "02:00"},
    ],
)
def test_a_wrong_argument_is_named(bench: Bench, wrong: dict[str, str]) -> None:
    (name,) = wrong

    with pytest.raises(ValueError, match=f"argument {name}"):
        trace(bench, **wrong)
