# SPDX-License-Identifier: Apache-2.0
"""What a real server lets an agent write: its own things, and no topology."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from midoryu.engine.effect import (
    LearnMac,
    LearnNeighbor,
    LeaseBlock,
    ReleaseBlock,
    SetVportStatus,
)
from midoryu.errors import NsdbError
from midoryu.nsdb.apply import apply
from midoryu.nsdb.client import NsdbClient
from midoryu.nsdb.remote import Certificates
from midoryu.nsdb.session import Session
from midoryu.nsdb.topology_file import parse
from midoryu.packet.address import parse_ip
from midoryu.topology import model
from tests.functional.nsdb_server import Agent, Server, turn_until

HOST = "node1"
TOPOLOGY = """
networks: {web: {ports: {vm1: {host: node1}, vm2: {host: node2}}}}
routers: {r: {ports: {web: {network: web, ip: 10.0.0.1/24}}}}
"""
NAT_ADDRESS = parse_ip("192.0.2.9")


class Access:
    """A server with a remote for agents, and the certificate of one host."""

    def __init__(self, directory: Path) -> None:
        key, certificate = directory / "key.pem", directory / "cert.pem"
        make = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
        ]
        out = ["-subj", f"/CN={HOST}", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*make, *out], check=True, capture_output=True)
        self._key, self._certificate = str(key), str(certificate)
        self.certificates = Certificates(
            self._key, self._certificate, self._certificate
        )
        self.server = Server(directory)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.remote = f"ssl:127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server, or start it again."""
        files = [f"--private-key={self._key}", f"--certificate={self._certificate}"]
        files.append(f"--ca-cert={self._certificate}")
        assert self.server.start("db", f"--agent-ssl={self._port}", *files) == 0

    def agent(self, host: str = HOST, underlay: str = "198.51.100.1") -> Agent:
        """Return an agent that comes by the agents' remote."""
        agent = Agent(self.server, host)
        agent.client.close()
        agent.client = NsdbClient(
            self.remote,
            host=host,
            underlay=parse_ip(underlay),
            private_key=self._key,
            certificate=self._certificate,
            ca_cert=self._certificate,
        )
        return agent


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    access = Access(tmp_path)
    access.start()
    try:
        access.server.apply(TOPOLOGY)
        yield access
    finally:
        assert access.server.stop() == 0


def _key(agent: Agent, kind: type, name: str) -> int:
    (key,) = [row.key for row in agent.of(kind) if getattr(row, "name", "") == name]
    return int(key)


def _underlay(agent: Agent, host: str) -> int:
    hosts = [row for row in agent.of(model.Host) if isinstance(row, model.Host)]
    return sum(row.underlay for row in hosts if row.name == host)


def test_an_agent_registers_learns_leases_and_reports(access: Access) -> None:
    agent = access.agent()
    try:
        turn_until([agent], lambda: _underlay(agent, HOST))
        network = _key(agent, model.Network, "web")
        router = _key(agent, model.Router, "r")
        vport = _key(agent, model.Vport, "vm1")
        agent.client.write(
            [
                LearnMac(network, 0x0200_0000_0011, vport),
                LearnNeighbor(router, parse_ip("10.0.0.9"), 0x0200_0000_0012),
                LeaseBlock(router, NAT_ADDRESS),
                SetVportStatus(vport, True),
            ]
        )
        kinds = (model.MacEntry, model.Neighbor, model.Lease, model.VportStatus)
        turn_until([agent], lambda: all(agent.of(kind) for kind in kinds))
        (lease,) = agent.of(model.Lease)
        assert isinstance(lease, model.Lease)
        agent.client.write(
            [
                LearnNeighbor(router, parse_ip("10.0.0.9"), 0x0200_0000_0013),
                ReleaseBlock(router, NAT_ADDRESS, lease.block),
                SetVportStatus(vport, False),
            ]
        )
        gone = (model.Lease, model.VportStatus)
        turn_until([agent], lambda: not any(agent.of(kind) for kind in gone))
        (neighbor,) = agent.of(model.Neighbor)
        assert isinstance(neighbor, model.Neighbor)
        assert neighbor.mac == 0x0200_0000_0013
    finally:
        agent.client.close()


def test_an_agent_changes_no_topology(access: Access) -> None:
    wanted = parse(TOPOLOGY.replace("vm2", "vm3"), "test.yaml")
    with (
        Session(
            access.remote, timeout_s=10, certificates=access.certificates
        ) as session,
        pytest.raises(NsdbError, match="permission"),
    ):
        apply(session, wanted, dry_run=False)

    assert access.server.apply(TOPOLOGY) == []


def test_an_agent_changes_no_row_of_another_host(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    thief = access.agent("node2", "198.51.100.66")
    try:
        turn_until([thief], lambda: "permission" in caplog.text)
        assert _underlay(thief, "node2") == 0
    finally:
        thief.client.close()


def test_roles_are_still_there_after_another_start(access: Access) -> None:
    assert access.server.stop() == 0
    access.start()

    agent = access.agent()
    try:
        turn_until([agent], lambda: _underlay(agent, HOST))
    finally:
        agent.client.close()
    test_an_agent_changes_no_topology(access)
