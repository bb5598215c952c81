# SPDX-License-Identifier: Apache-2.0
"""What a tool that is not ours says about the NAT: coturn's, by RFC 5780."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, wait

SERVER, OTHER = "198.51.100.10", "198.51.100.11"
ADDRESSES = {"vm1": "10.0.1.11", "vm2": "10.0.2.12", "vm3": "10.0.3.13"}


@pytest.fixture(scope="module")
def lab(
    module_lab: LabMaker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    made = module_lab(LABS / "discovery.yaml")
    with stun_server(made, tmp_path_factory.mktemp("stun")):
        yield made


@contextlib.contextmanager
def stun_server(lab: Lab, directory: Path) -> Iterator[None]:
    """Run coturn with two addresses and two ports, for questions only."""
    command = ["turnserver", "-n", "--stun-only", "--no-tls", "--no-dtls", "--no-cli"]
    command += ["-L", SERVER, "-L", OTHER, "-p", "3478"]
    command += ["--alt-listening-port=3479", f"--pidfile={directory / 'pid'}"]
    command += [f"--userdb={directory / 'db'}", f"--log-file={directory / 'log'}"]
    child = lab.popen(
        "stun", command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ports = ["ss", "-Huln", "sport = :3479"]
        assert wait(lambda: OTHER in lab.exec("stun", ports).stdout)
        yield
    finally:
        child.kill()
        child.wait()


def discover(lab: Lab, machine: str, question: str, port: int) -> str:
    command = ["turnutils_natdiscovery", question, "-L", ADDRESSES[machine]]
    command += ["-l", str(port), SERVER]
    return lab.exec(machine, command, timeout=60.0, check=False).stdout


@pytest.mark.parametrize("machine", ADDRESSES)
def test_mapping_is_endpoint_independent(lab: Lab, machine: str) -> None:
    text = discover(lab, machine, "-m", 40000)

    assert "NAT with Endpoint Independent Mapping!" in text, text


@pytest.mark.parametrize(
    ("machine", "filtering"),
    [
        ("vm1", "Endpoint Independent"),
        ("vm2", "Address Dependent"),
        ("vm3", "Address and Port Dependent"),
    ],
)
def test_filtering_is_as_the_masquerade_says(
    lab: Lab, machine: str, filtering: str
) -> None:
    text = discover(lab, machine, "-f", 41000)

    assert f"NAT with {filtering} Filtering!" in text, text


def test_hairpin_is_supported(lab: Lab) -> None:
    text = discover(lab, "vm1", "-H", 42000)

    assert "NAT supports Hairpinning!" in text or "Hairpin" in text, text
