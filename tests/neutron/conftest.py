# SPDX-License-Identifier: Apache-2.0
"""Labs and clouds for the tests with a real Neutron. Nothing is skipped here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.nsdb_server import Server
from tests.neutron.cloud import Cloud, running


@pytest.fixture(scope="session", autouse=True)
def _lab_directory() -> Iterator[None]:
    """Keep the tests' labs apart from those that a person has up."""
    directory = Path(f"/run/midoryu-neutron-test-{os.getpid()}")
    os.environ["MIDORYU_LAB_DIR"] = str(directory)
    yield
    shutil.rmtree(directory, ignore_errors=True)
    del os.environ["MIDORYU_LAB_DIR"]


@pytest.fixture(scope="module")
def nsdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Have an NSDB without any host."""
    server = Server(tmp_path_factory.mktemp("nsdb"))
    assert server.start() == 0
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, nsdb: Server) -> Iterator[Cloud]:
    """Have a Neutron that writes to it."""
    directory = tmp_path_factory.mktemp("cloud")
    with running(directory, nsdb.remote, gateways="public:g1") as found:
        yield found
