# SPDX-License-Identifier: Apache-2.0
"""Topology files against a real ovsdb-server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midoryu.cli import ctl
from midoryu.errors import NsdbError, TopologyError
from midoryu.nsdb.apply import describe, difference, write
from midoryu.nsdb.export import export
from midoryu.nsdb.item import items_of, port_name
from midoryu.nsdb.row_writer import ItemWriter
from midoryu.nsdb.topology_file import parse
from tests.functional.nsdb_server import Server

FULL = """
hosts: {spare: {}, node9: {underlay: 198.51.100.9}}
networks:
  web:
    up: false
    ports:
      vm1: {host: node1, mac: "02:00:00:00:01:01", ip: [10.0.1.11, "2001:db8::11"]}
      vm2: {host: node2, ip: 10.0.1.12, security: true, up: false, egress: vm-out,
            allowed: [{mac: "02:00:00:00:09:09", ip: 10.9.0.0/16}, {ip: 10.8.0.1},
                      {mac: "02:00:00:00:09:0a"}]}
      vm3: {iface_id: tap-3}
      second-2: {router: second, peer: b, up: false}
routers:
  tenant:
    ingress: vm-out
    ports:
      web: {network: web, ip: [10.0.1.1/24, "2001:db8::1/64"]}
      up: {router: provider, peer: tenant, ip: 100.64.0.2/30}
    routes:
      - {to: 0.0.0.0/0, via: 100.64.0.1, weight: 3, metric: 10}
      - {to: 192.168.0.0/16, blackhole: true}
      - {to: 192.168.1.0/24, from: 10.0.0.0/8, reject: true}
      - {to: 192.168.2.0/24, port: up}
    masquerade:
      - {from: 10.0.0.0/16, to: [203.0.113.10, 203.0.113.11], port: up}
      - {to: 203.0.113.12, destination: 8.8.8.0/24}
    dnat:
      - {address: "203.0.113.20:8000-8010/tcp", to: "10.0.1.11:80"}
      - {address: "[2001:db8:1::1]:53/udp", to: "[2001:db8::11]:53"}
      - {address: 203.0.113.21, to: 10.0.1.11}
    floating:
      - {address: 203.0.113.30, to: 10.0.1.12}
  second:
    ports:
      a: {network: web, ip: 10.0.1.2/24}
      b: {network: web, peer: second-2, ip: 10.0.1.3/24}
  provider:
    ports:
      tenant: {router: tenant, peer: up, ip: 100.64.0.1/30}
      uplink: {host: node1, ip: 192.0.2.2/30, mac: "02:00:00:00:0f:0f"}
chains:
  vm-out:
    policy: drop
    rules:
      - {accept: true, ct: [established, related]}
      - {accept: true, proto: tcp, to_port: [22, 8000-8010], not_from: 10.0.0.0/8}
      - {jump: more, from_group: admins, ethertype: ipv4}
      - {return: true, proto: icmp, icmp_type: 8, icmp_code: 0}
      - {reject: true, proto: 89}
  more: {}
groups: {admins: [10.9.0.0/16, "2001:db8::/32"]}
ingress_sets: {ways: [provider/uplink, web/vm1]}
"""
SMALL = "networks: {web: {ports: {vm1: {host: node1}}}}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    assert server.start() == 0
    yield server
    assert server.stop() == 0


def _ctl(server: Server, *arguments: str) -> int:
    try:
        return ctl.main(["--db", server.remote, *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def _export(server: Server) -> str:
    with server.session() as session:
        return export(session.tables)


def _ports(server: Server) -> dict[str, int]:
    with server.session() as session:
        rows = session.tables["Port"].rows.values()
        return {port_name(row): row.key for row in rows}


def test_second_apply_changes_nothing(server: Server) -> None:
    assert server.apply(FULL)

    assert server.apply(FULL) == []


def test_export_applied_again_changes_nothing(server: Server) -> None:
    server.apply(FULL)

    text = _export(server)

    assert list(describe(server.apply(text))) == []
    assert _export(server) == text


def test_export_makes_the_same_topology_elsewhere(
    server: Server, tmp_path: Path
) -> None:
    server.apply(FULL)
    text = _export(server)
    (tmp_path / "2").mkdir()
    second = Server(tmp_path / "2")
    second.start()

    try:
        second.apply(text)
        assert _export(second) == text
    finally:
        second.stop()


def test_dry_run_tells_and_changes_nothing(server: Server) -> None:
    told = server.apply(FULL, dry_run=True)

    assert "+ network web" in list(describe(told))
    assert _ports(server) == {}


def test_what_is_gone_from_the_file_is_deleted(server: Server) -> None:
    server.apply(FULL)
    key = _ports(server)["web/vm1"]

    server.apply(SMALL)

    assert _ports(server) == {"web/vm1": key}
    with server.session() as session:
        assert not session.tables["Router"].rows
        assert not session.tables["Rule"].rows
        hosts = {row.name for row in session.tables["Host"].rows.values()}
    assert hosts == {"node1", "node9"}, "a host with an address is the agent's"


def test_port_that_moves_to_a_router_of_the_same_name(server: Server) -> None:
    server.apply("networks: {x: {ports: {p: {host: node1}}}}")

    server.apply("routers: {x: {ports: {p: {host: node1, ip: 10.0.0.1/24}}}}")

    assert list(_ports(server)) == ["x/p"]


def test_rows_of_others_stay(server: Server) -> None:
    server.apply(SMALL)
    with server.session() as session:

        def mark(_: object) -> bool:
            (network,) = session.tables["Network"].rows.values()
            (port,) = session.tables["Port"].rows.values()
            network.external_ids = port.external_ids = {"neutron:id": "1"}
            return True

        session.transact(mark)

    server.apply("networks: {mine: {}}")

    assert list(_ports(server)) == ["web/vm1"]
    with pytest.raises(TopologyError, match="network web belongs to neutron"):
        server.apply(SMALL)


def test_learned_rows_go_with_their_parents_only(server: Server) -> None:
    server.apply("networks: {a: {ports: {p: {}}}, b: {ports: {q: {}}}}")
    with server.session() as session:

        def learn(transaction: object) -> bool:
            for port in session.tables["Port"].rows.values():
                row = transaction.insert(session.tables["Mac"])  # type: ignore[attr-defined]
                row.network, row.port = port.network[0], port
                row.mac = "02:00:00:00:00:01"
            return True

        session.transact(learn)

    server.apply("networks: {a: {up: false, ports: {p: {}}}}")

    with server.session() as session:
        macs = session.tables["Mac"].rows.values()
        assert [row.network.name for row in macs] == ["a"]


def test_two_appliers_at_once_leave_one_topology_and_unique_keys(
    server: Server, tmp_path: Path
) -> None:
    def text(name: str) -> str:
        ports = ", ".join(f"p{n}: {{host: {name}{n}}}" for n in range(50))
        return f"networks: {{{name}: {{ports: {{{ports}}}}}}}"

    files = {name: tmp_path / f"{name}.yaml" for name in ("left", "right")}
    for name, file in files.items():
        file.write_text(text(name))
    command = [sys.executable, "-W", "ignore", "-m", "midoryu.cli.ctl"]
    running = [
        subprocess.Popen(
            [*command, "--db", server.remote, "apply", "-f", str(file)],
            stdout=subprocess.DEVNULL,
        )
        for file in files.values()
        for _ in range(2)
    ]

    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    ports = _ports(server)
    with server.session() as session:
        hosts = {row.key for row in session.tables["Host"].rows.values()}
        networks = {row.key for row in session.tables["Network"].rows.values()}
    assert len({name.partition("/")[0] for name in ports}) == 1
    keys = [*ports.values(), *hosts, *networks]
    assert len(keys) == len(set(keys)) == 50 + len(hosts) + 1


def test_server_itself_refuses_what_dangles(server: Server) -> None:
    server.apply(SMALL)
    with server.session() as session:

        def cut(_: object) -> bool:
            (network,) = session.tables["Network"].rows.values()
            network.delete()
            return True

        with pytest.raises(NsdbError, match="referential integrity"):
            session.transact(cut)


def test_bad_file_is_code_1_and_changes_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("networks:\n  web: {prots: {}}\n  db: {ports: {p: {ip: x}}}\n")

    assert _ctl(server, "apply", "-f", str(file)) == 1

    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(
        "bad.yaml:2:16: networks.web.prots: unknown key; did you mean 'ports'?"
    )
    assert len(lines) == 2
    assert _ports(server) == {}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--db", "unix:/nowhere/sock", "--timeout", "0.3", "show"], 3),
        (["--db", "tcp:127.0.0.1:1", "--timeout", "0.3", "show"], 3),
        (["--db", "carrier-pigeon", "show"], 1),
        (["apply", "-f", "/nowhere/file.yaml"], 1),
        (["apply"], 2),
        (["show", "castle"], 2),
        (["show", "network", "none"], 1),
        (["ingress-set", "add", "none", "web/vm1"], 1),
        (["ingress-set", "create", "s", "web/none"], 1),
        (["show"], 0),
        (["port", "list"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_exit_code(server: Server, arguments: list[str], code: int) -> None:
    server.apply(SMALL)

    assert _ctl(server, *arguments) == code


def test_ingress_set_commands(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.apply("networks: {n: {ports: {a: {}, b: {}, c: {}}}}")

    assert _ctl(server, "ingress-set", "create", "ways", "n/a") == 0
    assert _ctl(server, "ingress-set", "create", "ways") == 1
    assert _ctl(server, "ingress-set", "add", "ways", "n/b", "n/c") == 0
    assert _ctl(server, "ingress-set", "add", "ways", "n/b") == 0
    assert _ctl(server, "ingress-set", "remove", "ways", "n/a", "n/c") == 0
    server.apply("networks: {n: {ports: {a: {}, b: {}}}}")
    capsys.readouterr()
    assert _ctl(server, "--format", "json", "ingress-set", "list") == 0
    assert json.loads(capsys.readouterr().out) == {"ways": ["n/b"]}
    assert _ctl(server, "ingress-set", "delete", "ways") == 0
    assert _ctl(server, "ingress-set", "delete", "ways") == 1


def test_changed_rule_lets_go_of_its_group(server: Server) -> None:
    rule = "from_group: g, "
    text = "chains: {c: {rules: [{accept: true, %sto: 10.0.0.0/8}, {drop: true}]}}\n"
    server.apply(text % rule + "groups: {g: [10.9.0.0/16]}")
    with server.session() as session:
        before = {row.uuid for row in session.tables["Rule"].rows.values()}

    server.apply(text % "")

    with server.session() as session:
        after = {row.uuid for row in session.tables["Rule"].rows.values()}
        assert not session.tables["Address_Group"].rows
    assert len(after) == 2
    assert len(after & before) == 1, "the rule that did not change keeps its row"


def test_file_applied_in_between_makes_the_other_start_over(server: Server) -> None:
    server.apply("networks: {a: {}, b: {}}")
    wanted = parse("networks: {a: {up: false}, b: {}}", "mine.yaml")
    rounds: list[int] = []

    with server.session() as session:

        def fill(transaction: object) -> bool:
            there = items_of(session.tables)
            rows = {item_id: row for item_id, (_, row) in there.items()}
            changes = difference(there, wanted)
            rounds.append(len(changes))
            if len(rounds) == 1:
                server.apply("networks: {a: {}, b: {up: false}}")
            write(ItemWriter(transaction, session.tables, rows), changes)
            return True

        session.transact(fill)

    assert rounds == [1, 2], "the second round sees what the other file changed"
    assert server.apply("networks: {a: {up: false}, b: {}}") == []


def test_of_a_long_list_only_what_came_and_went_is_told(server: Server) -> None:
    many = [f"10.0.0.{number}" for number in range(1, 40)]
    server.apply(f"groups: {{many: {many}}}")

    changes = server.apply(f"groups: {{many: {many[1:] + ['192.0.2.1']}}}")

    assert list(describe(changes)) == [
        "~ address_group many",
        "    members: 39 -> 39: +192.0.2.1/32,-10.0.0.1/32",
    ]
