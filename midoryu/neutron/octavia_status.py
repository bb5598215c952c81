# SPDX-License-Identifier: Apache-2.0
"""How Octavia's load balancers fare, and telling Octavia so.

`statuses` is pure. `Reporter` tells what a call of the driver changed; the agent tells
what health monitors find: Octavia's driver agent runs `run_agent` as a process.

Octavia commits its own row after the driver's call returned, so the news may be there
before it: they are told again for a while.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Final

from midoryu.errors import NsdbError
from midoryu.neutron.octavia_tree import MEMBER_KEY, TREE_KEY, Tree, tree_of
from midoryu.neutron.store import Store

LOG = logging.getLogger(__name__)

Statuses = dict[str, list[dict[str, str]]]
"""As `DriverLibrary.update_loadbalancer_status` takes them."""

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_TICK_S: Final = 0.5


def statuses(tree: Tree, found: Mapping[str, bool]) -> Statuses:
    """Return the status of a balancer and all its parts.

    Args:
        tree: the balancer.
        found: members' ids -> what a monitor found last.
    """
    pools = {
        ident: _pool(pool, _members(pool, found))
        for ident, pool in tree["pools"].items()
    }
    said: Statuses = {"pools": [], "members": [], "healthmonitors": []}
    for ident, pool in tree["pools"].items():
        said["pools"].append(_active(ident, pools[ident]))
        for member, state in _members(pool, found).items():
            said["members"].append(_active(member, state))
        if pool["monitor"] is not None:
            state = "ONLINE" if pool["monitor"]["up"] else "OFFLINE"
            said["healthmonitors"].append(_active(pool["monitor"]["id"], state))
    said["listeners"] = [
        _active(ident, "ONLINE" if listener["up"] and tree["up"] else "OFFLINE")
        for ident, listener in tree["listeners"].items()
    ]
    said["loadbalancers"] = [_active(tree["id"], _balancer(tree, pools.values()))]
    return said


def deleted(kind: str, idents: Iterable[str]) -> Statuses:
    """Return that some objects are gone."""
    gone = {"provisioning_status": "DELETED", "operating_status": "OFFLINE"}
    return {kind: [{"id": ident, **gone} for ident in idents]}


def merged(*several: Statuses) -> Statuses:
    """Put statuses together."""
    found: Statuses = {}
    for one in several:
        for kind, entries in one.items():
            found.setdefault(kind, []).extend(entries)
    return found


def members_found(tables: Mapping[str, Any]) -> dict[str, bool]:
    """Return what monitors found, by Octavia's member id."""
    return {
        row.member.external_ids[MEMBER_KEY]: row.up
        for row in tables["Member_Status"].rows.values()
        if MEMBER_KEY in row.member.external_ids
    }


def trees(tables: Mapping[str, Any]) -> list[Tree]:
    """Return every balancer of Octavia's."""
    rows = tables["Load_Balancer"].rows.values()
    return [tree_of(row) for row in rows if TREE_KEY in row.external_ids]


def _active(ident: str, operating: str) -> dict[str, str]:
    return {
        "id": ident,
        "provisioning_status": "ACTIVE",
        "operating_status": operating,
    }


def _members(pool: Mapping[str, Any], found: Mapping[str, bool]) -> dict[str, str]:
    watched = pool["monitor"] is not None and pool["monitor"]["up"]
    states = {}
    for ident, member in pool["members"].items():
        if not (member["up"] and pool["up"]):
            states[ident] = "OFFLINE"
        elif watched and not found.get(ident, True):
            states[ident] = "ERROR"
        elif not member["weight"]:
            states[ident] = "DRAINING"
        else:
            states[ident] = "ONLINE" if watched else "NO_MONITOR"
    return states


def _pool(pool: Mapping[str, Any], members: Mapping[str, str]) -> str:
    states = set(members.values())
    if not pool["up"] or not states - {"OFFLINE"}:
        return "OFFLINE"
    if "ERROR" not in states:
        return "ONLINE"
    return "DEGRADED" if states - {"ERROR", "OFFLINE"} else "ERROR"


def _balancer(tree: Tree, pools: Iterable[str]) -> str:
    if not tree["up"]:
        return "OFFLINE"
    states = set(pools)
    if "ERROR" in states:
        return "ERROR"
    return "DEGRADED" if "DEGRADED" in states else "ONLINE"


class Reporter:
    """Tells Octavia from a thread of its own, in order."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        """Args: connect: makes a `DriverLibrary`; may take its time."""
        self._connect = connect
        self._news: queue.Queue[Statuses] = queue.Queue()
        self._library: Any = None
        self._thread = threading.Thread(
            target=self._run, name="midoryu-octavia", daemon=True
        )
        self._thread.start()

    def tell(self, news: Statuses) -> None:
        """Have something told, soon."""
        self._news.put(news)

    def _run(self) -> None:
        while True:
            news = self._news.get()
            for pause_s in (*_PAUSES_S, None):
                if self._say(news):
                    break
                if pause_s is None:
                    LOG.error("Octavia did not take: %s", news)
                else:
                    time.sleep(pause_s)

    def _say(self, news: Statuses) -> bool:
        try:
            if self._library is None:
                self._library = self._connect()
            self._library.update_loadbalancer_status(news)
        except Exception as problem:  # octavia-lib's, of several kinds: tried again
            LOG.debug("Octavia does not take it yet: %s", problem)
            return False
        return True


class Watcher:
    """Sees what monitors find, and tells of what became different."""

    def __init__(self, store: Store, reporter: Reporter) -> None:
        self._store = store
        self._reporter = reporter
        self._said: dict[str, Statuses] = {}

    def run(self) -> None:
        """Look once.

        Raises:
            NsdbError: the NSDB cannot be reached.
        """
        now: dict[str, Statuses] = self._store.read(lambda tables, _: _all(tables))
        for ident, said in now.items():
            if self._said.get(ident) != said:
                self._reporter.tell(said)
        self._said = now


def watch(store: Store, reporter: Reporter, is_over: Callable[[], bool]) -> None:
    """Look until it is over."""
    watcher = Watcher(store, reporter)
    while not is_over():
        try:
            watcher.run()
        except NsdbError as problem:
            LOG.debug("the NSDB is away: %s", problem)
        time.sleep(_TICK_S)


def _all(tables: Mapping[str, Any]) -> dict[str, Statuses]:
    """Return the operating statuses of all balancers; provisioning is the driver's."""
    found = members_found(tables)
    return {tree["id"]: _operating(statuses(tree, found)) for tree in trees(tables)}


def _operating(said: Statuses) -> Statuses:
    keys = ("id", "operating_status")
    return {
        kind: [{key: entry[key] for key in keys} for entry in entries]
        for kind, entries in said.items()
    }
