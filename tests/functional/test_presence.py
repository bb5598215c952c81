# SPDX-License-Identifier: Apache-2.0
"""Who is connected to a real NSDB, and who is not any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from midoryu.errors import NsdbError
from midoryu.nsdb.presence import connected_hosts
from tests.functional.nsdb_server import Agent, Server, turn_until

HOSTS = ("one", "two")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    assert found.start() == 0
    yield found
    found.stop()


def there(server: Server) -> frozenset[str]:
    return connected_hosts(server.remote, HOSTS, timeout_s=5)


def test_host_is_there_while_its_agent_is_connected(server: Server) -> None:
    assert there(server) == frozenset()
    one = Agent(server, "one")
    turn_until([one], lambda: there(server) == {"one"})
    two = Agent(server, "two")
    turn_until([one, two], lambda: there(server) == {"one", "two"})

    one.client.close()

    turn_until([two], lambda: there(server) == {"two"})
    two.client.close()


def test_asking_takes_nothing_away(server: Server) -> None:
    one = Agent(server, "one")
    turn_until([one], lambda: there(server) == {"one"})
    assert there(server) == there(server) == {"one"}

    one.client.close()
    again = Agent(server, "one")
    turn_until([again], lambda: there(server) == {"one"})
    again.client.close()


def test_host_is_there_again_after_the_server_was_away(server: Server) -> None:
    one = Agent(server, "one")
    turn_until([one], lambda: there(server) == {"one"})

    assert server.stop() == 0
    with pytest.raises(NsdbError):
        there(server)
    assert server.start() == 0

    turn_until([one], lambda: there(server) == {"one"})
    one.client.close()
