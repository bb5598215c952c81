# SPDX-License-Identifier: Apache-2.0
"""The agent's client against a real ovsdb-server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from midoryu.engine.effect import (
    ForgetMac,
    LearnMac,
    LearnNeighbor,
    LeaseBlock,
    ReleaseBlock,
    SetVportReady,
    SetVportStatus,
)
from midoryu.engine.event import NsdbDisconnected, TopologyChanged, WriteRefused
from midoryu.nsdb.schema import BLOCKS
from midoryu.packet.address import parse_ip
from midoryu.topology import model
from tests.functional.nsdb_server import Agent, Server, turn_until

TOPOLOGY = """
networks:
  web:
    ports:
      vm1: {host: node1, ip: 10.0.0.11}
      vm2: {host: node2, ip: 10.0.0.12, egress: fw}
routers:
  r:
    ports: {web: {network: web, ip: 10.0.0.1/24}, up: {host: node1, ip: 192.0.2.1/24}}
    masquerade: [{from: 10.0.0.0/24, to: 192.0.2.9}]
chains:
  fw: {rules: [{accept: true, proto: tcp, to_port: 22}]}
"""
NAT_ADDRESS = parse_ip("192.0.2.9")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    assert server.start() == 0
    yield server
    assert server.stop() == 0


@pytest.fixture
def agent(server: Server) -> Iterator[Agent]:
    server.apply(TOPOLOGY)
    agent = Agent(server, "node1", parse_ip("198.51.100.1"))
    turn_until([agent], lambda: _underlay(agent, "node1"))
    yield agent
    agent.client.close()


@pytest.fixture
def other(server: Server, agent: Agent) -> Iterator[Agent]:
    other = Agent(server, "node2", parse_ip("198.51.100.2"))
    turn_until([agent, other], lambda: _underlay(agent, "node2"))
    yield other
    other.client.close()


def _underlay(agent: Agent, host: str) -> int:
    hosts = [row for row in agent.of(model.Host) if isinstance(row, model.Host)]
    return sum(row.underlay for row in hosts if row.name == host)


def _key(agent: Agent, kind: type, name: str) -> int:
    (key,) = [row.key for row in agent.of(kind) if getattr(row, "name", "") == name]
    return int(key)


def _leases(agent: Agent) -> list[model.Lease]:
    return [row for row in agent.of(model.Lease) if isinstance(row, model.Lease)]


def _transact(server: Server, operations: str) -> str:
    """Change rows as a stranger does."""
    command = ["ovsdb-client", "transact", server.remote, f'["Midoryu",{operations}]']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def test_first_change_holds_everything(agent: Agent) -> None:
    first = next(e for e in agent.events if isinstance(e, TopologyChanged))

    kinds = {type(c.row) for c in first.changes if isinstance(c, model.Put)}

    assert {model.Network, model.Router, model.Vport, model.Chain, model.Host} <= kinds
    assert {model.Masquerade} <= kinds
    assert agent.names(model.Vport) == {"vm1", "vm2", "r", "web", "up"}


def test_changed_row_comes_alone(server: Server, agent: Agent) -> None:
    seen = len(agent.events)

    server.apply(TOPOLOGY.replace("ip: 10.0.0.11", "ip: 10.0.0.99"))
    turn_until([agent], lambda: agent.events[seen:])

    (event,) = agent.events[seen:]
    assert isinstance(event, TopologyChanged)
    (change,) = event.changes
    assert isinstance(change, model.Put)
    assert isinstance(change.row, model.Vport)
    assert change.row.addresses == (model.Prefix(parse_ip("10.0.0.99"), 128),)


def test_changed_rule_tells_of_its_chain(server: Server, agent: Agent) -> None:
    seen = len(agent.events)

    _transact(
        server,
        '{"op":"update","table":"Rule","where":[],"row":{"destination_ports":"80"}}',
    )
    turn_until([agent], lambda: agent.events[seen:])

    (chain,) = agent.of(model.Chain)
    assert isinstance(chain, model.Chain)
    assert chain.rules[0].destination_ports == ((80, 80),)


def test_restarted_server_changes_nothing(server: Server, agent: Agent) -> None:
    seen = len(agent.events)

    server.stop()
    turn_until([agent], lambda: NsdbDisconnected() in agent.events[seen:])
    server.start()
    turn_until([agent], lambda: len(agent.events) > seen + 1)

    assert agent.events[seen:] == [NsdbDisconnected(), TopologyChanged(())]


def test_other_database_comes_as_plain_difference(server: Server, agent: Agent) -> None:
    server.stop()
    server.start("other.db")
    server.apply(TOPOLOGY.replace("vm2", "vm3"))
    turn_until([agent], lambda: "vm3" in agent.names(model.Vport))

    told = [event for event in agent.events if isinstance(event, TopologyChanged)]
    gone = [c for event in told for c in event.changes if isinstance(c, model.Gone)]
    assert model.Network not in {change.kind for change in gone}
    assert agent.names(model.Vport) == {"vm1", "vm3", "r", "web", "up"}


def test_bad_row_is_counted_and_hides_nothing(
    server: Server, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    _transact(
        server,
        '{"op":"update","table":"Port","where":[["name","==","vm1"]],'
        '"row":{"addresses":"ten"}},'
        '{"op":"update","table":"Port","where":[["name","==","vm2"]],'
        '"row":{"up":false}}',
    )
    turn_until([agent], lambda: "vm1" not in agent.names(model.Vport))

    assert agent.client.bad_rows == 1
    assert [r.levelname for r in caplog.records if "bad row" in r.message] == [
        "WARNING"
    ]
    vm2 = [row for row in agent.of(model.Vport) if getattr(row, "name", "") == "vm2"]
    assert not vm2[0].up  # type: ignore[union-attr]


def test_learned_rows_reach_the_other_agent(agent: Agent, other: Agent) -> None:
    network, router = _key(agent, model.Network, "web"), _key(agent, model.Router, "r")
    vport = _key(agent, model.Vport, "vm1")

    agent.client.write(
        [
            LearnMac(network, 0x02AA, vport),
            LearnNeighbor(router, parse_ip("192.0.2.77"), 0x02BB),
            SetVportStatus(vport, True),
        ]
    )
    kinds = (model.MacEntry, model.Neighbor, model.VportStatus)
    turn_until([agent, other], lambda: all(other.of(kind) for kind in kinds))

    (status,) = other.of(model.VportStatus)
    assert status == model.VportStatus(vport, _key(agent, model.Host, "node1"), True)


def test_forgetting_what_moved_does_nothing(agent: Agent, other: Agent) -> None:
    network = _key(agent, model.Network, "web")
    vm1, vm2 = _key(agent, model.Vport, "vm1"), _key(agent, model.Vport, "vm2")
    agent.client.write([LearnMac(network, 0x02AA, vm1)])
    turn_until([agent, other], lambda: other.of(model.MacEntry))
    other.client.write([LearnMac(network, 0x02AA, vm2)])
    turn_until([agent, other], lambda: _mac_vports(agent) == [vm2])

    agent.client.write([ForgetMac(network, 0x02AA, vm1), SetVportStatus(vm1, True)])
    turn_until([agent, other], lambda: agent.of(model.VportStatus))

    assert _mac_vports(agent) == [vm2]


def _mac_vports(agent: Agent) -> list[int]:
    rows = agent.of(model.MacEntry)
    return [row.vport for row in rows if isinstance(row, model.MacEntry)]


def test_status_of_another_host_is_not_cleared(agent: Agent, other: Agent) -> None:
    vport = _key(agent, model.Vport, "vm1")
    mark = _key(agent, model.Vport, "vm2")
    agent.client.write([SetVportStatus(vport, True)])
    turn_until([agent, other], lambda: other.of(model.VportStatus))

    other.client.write([SetVportStatus(vport, False), SetVportStatus(mark, True)])
    turn_until([agent, other], lambda: len(agent.of(model.VportStatus)) == 2)

    host = _key(agent, model.Host, "node1")
    assert model.VportStatus(vport, host, True) in agent.of(model.VportStatus)


def test_a_host_says_that_it_is_ready_and_takes_it_back(
    agent: Agent, other: Agent
) -> None:
    vport, host = _key(agent, model.Vport, "vm1"), _key(agent, model.Host, "node2")
    other.client.write([SetVportReady(vport, True)])
    turn_until([agent, other], lambda: agent.of(model.VportReady))
    ready = agent.of(model.VportReady)
    assert [(row.vport, row.host) for row in ready] == [(vport, host)]  # type: ignore[union-attr]

    agent.client.write([SetVportReady(vport, False)])
    other.client.write([SetVportStatus(vport, True, early=True)])
    turn_until([agent, other], lambda: agent.of(model.VportStatus))
    early = model.VportStatus(vport, host, True, early=True)
    assert agent.of(model.VportStatus) == [early]
    assert agent.of(model.VportReady) == ready
    other.client.write([SetVportReady(vport, False)])
    turn_until([agent, other], lambda: not agent.of(model.VportReady))


def test_counting_the_writes_of_operators_wakes_no_agent(
    server: Server, agent: Agent
) -> None:
    before = agent.client._idl.change_seqno
    with server.session() as session:

        def count(_: object) -> bool:
            cloud = next(iter(session.tables["Cloud"].rows.values()))
            cloud.revision += 1
            return True

        assert session.transact(count)
    server.apply(TOPOLOGY + "hosts: [late]\n")
    turn_until([agent], lambda: "late" in agent.names(model.Host))

    assert agent.client._idl.change_seqno == before + 1


def test_two_agents_never_lease_one_block(agent: Agent, other: Agent) -> None:
    router = _key(agent, model.Router, "r")
    per_agent = 12

    for round_ in range(per_agent):
        for each in (agent, other):
            each.client.write([LeaseBlock(router, NAT_ADDRESS)])
        wanted = 2 * (round_ + 1)
        turn_until([agent, other], lambda n=wanted: len(_leases(agent)) == n)  # type: ignore[misc]

    leases = _leases(agent)
    assert len({lease.block for lease in leases}) == 2 * per_agent
    assert all(lease.block in BLOCKS for lease in leases)


def test_as_many_blocks_are_leased_as_were_asked_for_at_once(agent: Agent) -> None:
    router = _key(agent, model.Router, "r")

    agent.client.write([LeaseBlock(router, NAT_ADDRESS)] * 8)
    turn_until([agent], lambda: len(_leases(agent)) == 8)

    assert len({lease.block for lease in _leases(agent)}) == 8


def test_last_free_block_goes_to_one_agent(
    server: Server, agent: Agent, other: Agent
) -> None:
    router = _key(agent, model.Router, "r")
    _fill_blocks(server, keep_free=1)
    turn_until([agent, other], lambda: len(_leases(agent)) == len(BLOCKS) - 1)
    turn_until([agent, other], lambda: len(_leases(other)) == len(BLOCKS) - 1)

    for each in (agent, other):
        each.client.write([LeaseBlock(router, NAT_ADDRESS)])
    events = (agent.events, other.events)
    turn_until([agent, other], lambda: any(map(_refusals, events)))
    turn_until([agent, other], lambda: len(_leases(agent)) == len(BLOCKS))

    assert sum(map(len, map(_refusals, events))) == 1


def test_a_lost_block_is_claimed_by_who_had_it(agent: Agent, other: Agent) -> None:
    router = _key(agent, model.Router, "r")
    agent.client.write([LeaseBlock(router, NAT_ADDRESS, 77)])
    turn_until(
        [agent, other], lambda: [lease.block for lease in _leases(other)] == [77]
    )
    other.client.write([LeaseBlock(router, NAT_ADDRESS, 77)])
    turn_until([agent, other], lambda: _refusals(other.events))
    assert [lease.block for lease in _leases(agent)] == [77]


def _refusals(events: list[object]) -> list[object]:
    return [event for event in events if isinstance(event, WriteRefused)]


def _fill_blocks(server: Server, keep_free: int) -> None:
    with server.session() as session:
        tables = session.tables
        (router,) = tables["Router"].rows.values()
        host = next(iter(tables["Host"].rows.values()))

        def fill(transaction: object) -> bool:
            for block in BLOCKS[keep_free:]:
                row = transaction.insert(tables["Nat_Lease"])  # type: ignore[attr-defined]
                row.router, row.host = router, host
                row.address, row.block = "192.0.2.9", block
            return True

        session.transact(fill)


def test_released_block_is_gone(agent: Agent) -> None:
    router = _key(agent, model.Router, "r")
    agent.client.write([LeaseBlock(router, NAT_ADDRESS)])
    turn_until([agent], lambda: _leases(agent))

    block = _leases(agent)[0].block
    agent.client.write([ReleaseBlock(router, NAT_ADDRESS, block)])

    turn_until([agent], lambda: not _leases(agent))


def test_writes_wait_for_the_server(server: Server, agent: Agent) -> None:
    vport = _key(agent, model.Vport, "vm1")
    server.stop()
    turn_until([agent], lambda: NsdbDisconnected() in agent.events)

    agent.client.write([SetVportStatus(vport, False)])
    agent.client.write([SetVportStatus(vport, True)])
    server.start()

    turn_until([agent], lambda: agent.of(model.VportStatus))


def test_write_about_nothing_is_refused_and_takes_no_other_along(agent: Agent) -> None:
    vport = _key(agent, model.Vport, "vm1")
    bad = LearnMac(0xABCDE, 0x02AA, vport)

    agent.client.write([bad, SetVportStatus(vport, True)])
    turn_until([agent], lambda: agent.of(model.VportStatus))

    assert WriteRefused(bad, "there is no network with key 703710") in agent.events


def test_host_that_was_deleted_registers_again(server: Server, agent: Agent) -> None:
    agent_2 = Agent(server, "lonely", parse_ip("198.51.100.3"))
    turn_until([agent, agent_2], lambda: _underlay(agent, "lonely"))
    key = _key(agent, model.Host, "lonely")

    _transact(server, '{"op":"delete","table":"Host","where":[["name","==","lonely"]]}')
    turn_until([agent_2], lambda: not _underlay(agent_2, "lonely"))
    turn_until([agent, agent_2], lambda: _underlay(agent_2, "lonely"))
    assert _key(agent_2, model.Host, "lonely") == key
    agent_2.client.close()


def test_rows_that_another_database_lacks_are_gone(
    server: Server, agent: Agent
) -> None:
    server.stop()
    server.start("other.db")
    server.apply("networks: {lone: {}}")

    turn_until([agent], lambda: "lone" in agent.names(model.Network))

    assert agent.names(model.Network) == {"lone"}
    assert not agent.of(model.Vport)
    assert not agent.of(model.Masquerade)
