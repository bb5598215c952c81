# SPDX-License-Identifier: Apache-2.0
"""Neutron's database and the NSDB stay one: crashes, two API hosts, an NSDB away."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keystoneauth1.exceptions
import pytest

from midoryu.nsdb.item import Item, ItemId, items_of
from tests.functional.nsdb_server import Server
from tests.neutron.cloud import ROOT, Cloud, wait

BIN = Path(sys.executable).parent


def items(nsdb: Server) -> dict[ItemId, Item]:
    """Return what the NSDB has."""
    with nsdb.session() as session:
        return {key: item for key, (item, _) in items_of(session.tables).items()}


def networks(nsdb: Server) -> set[str]:
    return {name for table, name in items(nsdb) if table == "Network"}


def command(cloud: Cloud, name: str, *arguments: str) -> tuple[int, str]:
    """Run one of the drivers' commands."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(BIN / name), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def sync(cloud: Cloud, verb: str) -> tuple[int, str]:
    files = [a.replace("=", " ", 1) for a in cloud.conf_arguments()]
    words = [word for file in files for word in file.split(" ")]
    return command(cloud, "midoryu-neutron-sync", verb, *words)


@pytest.fixture
def worker_away(cloud: Cloud) -> Iterator[None]:
    """Have no maintenance worker for the length of a test."""
    if "worker" in cloud.running:
        cloud.kill("worker")
    yield
    if "worker" not in cloud.running:
        cloud.start_worker()


def test_api_that_dies_before_its_nsdb_write_is_repaired(
    cloud: Cloud, nsdb: Server, worker_away: None, tmp_path: Path
) -> None:
    marker = tmp_path / "die"
    cloud.start_api("mortal", MIDORYU_TEST_DIE_BEFORE_WRITE=str(marker))
    mortal = cloud.admin("mortal")
    alive = mortal.create_network(name="before")
    assert f"neutron-{alive.id}" in networks(nsdb)
    marker.touch()
    with pytest.raises(keystoneauth1.exceptions.ClientException):
        mortal.create_network(name="during")
    assert cloud.wait_dead("mortal") == 70
    found = next(iter(cloud.admin().networks(name="during")))
    assert f"neutron-{found.id}" not in networks(nsdb)

    cloud.start_worker()

    wait(lambda: f"neutron-{found.id}" in networks(nsdb))
    assert sync(cloud, "--check")[0] == 0


def test_two_api_hosts_at_once_agree(cloud: Cloud, nsdb: Server) -> None:
    cloud.start_api("second")
    admins = [cloud.admin(), cloud.admin("second")]
    network = admins[0].create_network(name="shared")
    admins[0].create_subnet(network_id=network.id, ip_version=4, cidr="10.5.0.0/24")
    group = admins[0].create_security_group(name="shared")
    port = admins[0].create_port(network_id=network.id, security_groups=[group.id])
    problems: list[Exception] = []

    def work(number: int) -> None:
        admin = admins[number % 2]
        try:
            for turn in range(12):
                name = f"{number}-{turn}"
                made = admin.create_port(network_id=network.id, name=name)
                pairs = [{"ip_address": f"10.5.0.{200 + number}"}]
                if turn % 2:
                    admin.update_port(made.id, allowed_address_pairs=pairs)
                else:
                    admin.delete_port(made.id)
                admin.update_port(port.id, is_admin_state_up=bool(turn % 2))
                admin.create_security_group_rule(
                    security_group_id=group.id,
                    direction="ingress",
                    ethertype="IPv4",
                    protocol="tcp",
                    port_range_min=1000 + number * 20 + turn,
                    port_range_max=1000 + number * 20 + turn,
                )
        except Exception as problem:  # told below, with the test's name
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cloud.kill("second")

    assert problems == []
    wait(lambda: sync(cloud, "--check")[0] == 0, 20)
    chain = items(nsdb)["Chain", f"neutron-sg-{group.id}-to"]
    rules: Any = chain.columns["rules"]
    assert len(rules) == 48


def test_api_goes_on_while_the_nsdb_is_away(cloud: Cloud, nsdb: Server) -> None:
    assert nsdb.stop() == 0
    network = cloud.admin().create_network(name="patient")
    assert nsdb.start() == 0

    wait(lambda: f"neutron-{network.id}" in networks(nsdb))


def test_command_tells_and_repairs_what_differs(
    cloud: Cloud, nsdb: Server, worker_away: None
) -> None:
    network = cloud.admin().create_network(name="damaged")

    def is_written() -> bool:
        """Let the API write, as it does with every call once it has the NSDB back."""
        cloud.admin().update_network(network.id, description=f"{time.monotonic()}")
        return f"neutron-{network.id}" in networks(nsdb)

    # The NSDB has just been away, and nobody else writes what a call had to leave.
    wait(is_written)
    wait(lambda: sync(cloud, "--check")[0] == 0, 20)
    assert sync(cloud, "--check") == (0, "the NSDB says what Neutron says\n")
    with nsdb.session() as session:

        def damage(transaction: Any) -> bool:
            rows = session.tables["Network"].rows.values()
            row = next(r for r in rows if r.name == f"neutron-{network.id}")
            row.up = False
            stray = transaction.insert(session.tables["Chain"])
            stray.name, stray.policy = "neutron-sg-gone-to", "accept"
            stray.external_ids = {"neutron:unit": "security-group:gone"}
            return True

        assert session.transact(damage)

    code, text = sync(cloud, "--check")
    assert code == 1
    assert f"~ network neutron-{network.id}\n    up: False -> True" in text
    assert "- chain neutron-sg-gone-to" in text
    assert sync(cloud, "--repair")[0] == 0
    assert sync(cloud, "--check")[0] == 0


def test_upgrade_check_passes_and_fails_in_openstacks_habit(
    cloud: Cloud, nsdb: Server
) -> None:
    files = cloud.conf_arguments()

    code, text = command(cloud, "midoryu-status", *files, "upgrade", "check")
    assert code == 1, text  # no agent has registered a host
    assert "NSDB" in text
    assert "Journal" in text

    assert nsdb.stop() == 0
    code, text = command(cloud, "midoryu-status", *files, "upgrade", "check")
    assert nsdb.start() == 0
    assert code == 2, text
