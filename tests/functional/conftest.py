# SPDX-License-Identifier: Apache-2.0
"""Labs for the functional tests: real Open vSwitch in namespaces of the test's own.

Nothing is skipped here: without root or Open vSwitch every test of this folder fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Union

import pytest

from midoryu.lab.lab import Lab

LABS = Path(__file__).parents[2] / "tools" / "labs"
NEEDED_COMMANDS = ("ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ip", "tcpdump", "nft")

LabMaker = Callable[..., Lab]


@pytest.fixture(scope="session", autouse=True)
def _real_parts() -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [c for c in NEEDED_COMMANDS if shutil.which(c, path=path) is None]
    assert os.geteuid() == 0, "functional tests need root (network namespaces)"
    assert not missing, f"missing {missing}: run tools/install"


@pytest.fixture(scope="session", autouse=True)
def _lab_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests' labs apart from those that a person has up."""
    directory = Path(f"/run/midoryu-test-{os.getpid()}")
    before = os.environ.get("MIDORYU_LAB_DIR")
    os.environ["MIDORYU_LAB_DIR"] = str(directory)
    yield
    left = list(directory.iterdir()) if directory.exists() else []
    shutil.rmtree(directory, ignore_errors=True)
    if before is None:
        del os.environ["MIDORYU_LAB_DIR"]
    else:
        os.environ["MIDORYU_LAB_DIR"] = before
    assert left == [], f"labs were left behind: {left}"


def _maker(prefix: str) -> Iterator[LabMaker]:
    made: list[Lab] = []

    def make(source: Union[str, Path, dict[str, Any]], *, agents: bool = True) -> Lab:
        name = f"{prefix}{os.getpid() % 100000}{chr(ord('a') + len(made))}"
        lab = Lab(source, name=name, agents=agents)
        made.append(lab)
        lab.up()
        return lab

    yield make
    for lab in reversed(made):
        lab.down()


@pytest.fixture
def make_lab() -> Iterator[LabMaker]:
    """Bring labs up that last for one test."""
    yield from _maker("t")


@pytest.fixture(scope="module")
def module_lab() -> Iterator[LabMaker]:
    """Bring labs up that last for one test file."""
    yield from _maker("m")


@pytest.fixture(scope="session")
def session_lab() -> Iterator[LabMaker]:
    """Bring labs up that last for the whole run."""
    yield from _maker("s")
