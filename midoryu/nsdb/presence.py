# SPDX-License-Identifier: Apache-2.0
"""Which hosts' agents are connected to the NSDB now.

No row beats: an agent holds a lock of the server for as long as its connection lives
(`remote.TrackingIdl.hold`), and whoever wants to know asks for the same lock for a
moment. Locks are each server's own, so a cluster is asked member by member.

Source: RFC 7047, sections 4.1.8 (lock) and 4.1.10 (unlock).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable
from typing import Any, Final

import ovs.jsonrpc
import ovs.poller
import ovs.stream

from midoryu.errors import NsdbError

_PREFIX: Final = "midoryu_host_"


def lock_name(host: str) -> str:
    """Name the lock of a host; RFC 7047 allows letters, digits and "_" only."""
    return _PREFIX + hashlib.blake2s(host.encode(), digest_size=16).hexdigest()


def connected_hosts(
    connection: str, hosts: Iterable[str], *, timeout_s: float
) -> frozenset[str]:
    """Return those of some hosts whose agents are connected.

    Args:
        connection: remotes of the NSDB, separated by commas.
        hosts: names of hosts.
        timeout_s: how long each remote may take.

    Raises:
        NsdbError: no remote answers.
    """
    missing = set(hosts)
    there: set[str] = set()
    problems = []
    for remote in connection.split(","):
        try:
            there |= _holders(remote, missing - there, time.monotonic() + timeout_s)
        except OSError as problem:
            problems.append(f"{remote}: {problem}")
    if len(problems) == len(connection.split(",")):
        raise NsdbError("; ".join(problems))
    return frozenset(there)


def _holders(remote: str, hosts: Iterable[str], deadline: float) -> set[str]:
    left_ms = max(1, int((deadline - time.monotonic()) * 1000))
    error, stream = ovs.stream.Stream.open_block(
        ovs.stream.Stream.open(remote), left_ms
    )
    if error:
        raise OSError(error, "no connection")
    connection = ovs.jsonrpc.Connection(stream)
    with contextlib.closing(connection):
        return {host for host in hosts if not _is_free(connection, host, deadline)}


def _is_free(connection: Any, host: str, deadline: float) -> bool:
    name = lock_name(host)
    free = bool(_ask(connection, "lock", name, deadline).get("locked"))
    _ask(connection, "unlock", name, deadline)
    return free


def _ask(connection: Any, method: str, name: str, deadline: float) -> dict[str, Any]:
    request = ovs.jsonrpc.Message.create_request(method, [name])
    error = connection.send(request)
    while not error:
        connection.run()
        error, answer = connection.recv()
        if answer is not None and answer.id == request.id:
            return answer.result or {}
        if answer is not None:
            continue
        if error not in (0, ovs.jsonrpc.errno.EAGAIN):
            break
        error = 0
        left_ms = int((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            raise OSError("no answer")
        poller = ovs.poller.Poller()
        connection.wait(poller)
        connection.recv_wait(poller)
        poller.timer_wait(left_ms)
        poller.block()
    raise OSError(error, "the connection broke")
