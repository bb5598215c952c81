# SPDX-License-Identifier: Apache-2.0
"""Octavia's provider driver `midoryu`: load balancers without machines.

Octavia's API process calls it; what is asked becomes rows of the NSDB within the call,
and Octavia hears from a thread that it is done (`octavia_status`). A balancer stands on
the network of its VIP. Options are those of Neutron's drivers, group [midoryu], in
`octavia.conf`: only `nsdb_*` are of use.

The driver keeps nothing: a call reads the balancer's tree from its row, changes it and
writes the rows that follow, in one transaction that verifies the NSDB's revision.

Source: octavia-lib, provider driver guide; ovn-octavia-provider for what is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, Callable, NoReturn, Union

from octavia_lib.api.drivers import driver_lib, exceptions, provider_base
from oslo_config import cfg

from midoryu.conf import neutron as options
from midoryu.errors import NsdbError
from midoryu.neutron import octavia_status as status
from midoryu.neutron import octavia_tree as trees
from midoryu.neutron.octavia_status import Reporter, Statuses
from midoryu.neutron.octavia_tree import Tree, UnsupportedError
from midoryu.neutron.store import Index, Store
from midoryu.neutron.writer import difference, write
from midoryu.nsdb.remote import Certificates

Find = Callable[[Tree], bool]
Change = Callable[[Tree], Union[Statuses, None]]


class MidoryuProviderDriver(provider_base.ProviderDriver):
    """What Octavia's API calls."""

    def __init__(self) -> None:
        """Prepare; the first call connects."""
        super().__init__()
        self._store, self._reporter = _of_process(os.getpid())

    # Load balancers.

    def create_vip_port(self, *_: Any) -> NoReturn:
        """Leave the VIP's port to Octavia."""
        text = "Octavia makes the port"
        raise exceptions.NotImplementedError(
            user_fault_string=text, operator_fault_string=text
        )

    def loadbalancer_create(self, loadbalancer: Any) -> None:
        """Make a balancer, with all that comes with it."""
        tree = self._checked(lambda: trees.make_tree(_fields(loadbalancer)))
        self._write(tree["id"], tree)
        self._tell(tree)

    def loadbalancer_delete(self, loadbalancer: Any, cascade: bool = False) -> None:
        """Take a balancer away, with all that it has."""
        ident = loadbalancer.loadbalancer_id
        gone = [status.deleted("loadbalancers", [ident])]
        tree = self._read(lambda tree: bool(tree["id"] == ident))
        if tree is not None:
            if (tree["listeners"] or tree["pools"]) and not cascade:
                text = "the load balancer still has listeners or pools"
                raise exceptions.DriverError(
                    user_fault_string=text, operator_fault_string=text
                )
            gone.append(_all_deleted(tree))
            self._write(ident, None)
        self._reporter.tell(status.merged(*gone))

    def loadbalancer_update(self, old_loadbalancer: Any, new_loadbalancer: Any) -> None:
        """Change a balancer."""
        new = _fields(new_loadbalancer)
        self._in_balancer(
            old_loadbalancer, lambda tree: trees.change_balancer(tree, new)
        )

    # Listeners.

    def listener_create(self, listener: Any) -> None:
        """Make a listener."""
        new = _fields(listener)

        def change(tree: Tree) -> None:
            if new.get("default_pool"):
                trees.put_pool(tree, new["default_pool"])
            trees.put_listener(tree, new)

        self._in_balancer(listener, change)

    def listener_update(self, old_listener: Any, new_listener: Any) -> None:
        """Change a listener."""
        new = _fields(new_listener)
        self._in_balancer(old_listener, lambda tree: trees.put_listener(tree, new))

    def listener_delete(self, listener: Any) -> None:
        """Take a listener away."""
        ident = listener.listener_id

        def change(tree: Tree) -> Statuses:
            trees.delete_listener(tree, ident)
            return status.deleted("listeners", [ident])

        self._in_balancer(listener, change)

    # Pools.

    def pool_create(self, pool: Any) -> None:
        """Make a pool."""
        new = _fields(pool)
        self._in_balancer(pool, lambda tree: trees.put_pool(tree, new))

    def pool_update(self, old_pool: Any, new_pool: Any) -> None:
        """Change a pool."""
        new = _fields(new_pool)
        self._in_pool(old_pool.pool_id, lambda tree: trees.put_pool(tree, new))

    def pool_delete(self, pool: Any) -> None:
        """Take a pool away, with its members and its monitor."""
        ident = pool.pool_id

        def change(tree: Tree) -> Statuses:
            gone = _pool_deleted(ident, tree["pools"][ident])
            trees.delete_pool(tree, ident)
            return gone

        self._in_pool(ident, change)

    # Members.

    def member_create(self, member: Any) -> None:
        """Add a member to its pool."""
        new = _fields(member)
        self._in_pool(member.pool_id, lambda tree: trees.put_member(tree, new))

    def member_update(self, old_member: Any, new_member: Any) -> None:
        """Change a member."""
        new = {**_fields(new_member), "pool_id": old_member.pool_id}
        self._in_pool(old_member.pool_id, lambda tree: trees.put_member(tree, new))

    def member_delete(self, member: Any) -> None:
        """Take a member away."""

        def change(tree: Tree) -> Statuses:
            tree["pools"][member.pool_id]["members"].pop(member.member_id, None)
            return status.deleted("members", [member.member_id])

        self._in_pool(member.pool_id, change)

    def member_batch_update(self, pool_id: str, members: Any) -> None:
        """Make a pool have just these members."""
        wanted = [{**_fields(member), "pool_id": pool_id} for member in members]

        def change(tree: Tree) -> Statuses:
            there = tree["pools"][pool_id]["members"]
            gone = there.keys() - {member["member_id"] for member in wanted}
            for ident in gone:
                del there[ident]
            for member in wanted:
                trees.put_member(tree, member)
            return status.deleted("members", sorted(gone))

        self._in_pool(pool_id, change)

    # Health monitors.

    def health_monitor_create(self, healthmonitor: Any) -> None:
        """Give a pool a monitor."""
        new = _fields(healthmonitor)
        self._in_pool(healthmonitor.pool_id, lambda tree: trees.put_monitor(tree, new))

    def health_monitor_update(
        self, old_healthmonitor: Any, new_healthmonitor: Any
    ) -> None:
        """Change a monitor."""
        pool = old_healthmonitor.pool_id
        new = {**_fields(new_healthmonitor), "pool_id": pool}
        self._in_pool(pool, lambda tree: trees.put_monitor(tree, new))

    def health_monitor_delete(self, healthmonitor: Any) -> None:
        """Take a pool's monitor away."""

        def change(tree: Tree) -> Statuses:
            tree["pools"][healthmonitor.pool_id]["monitor"] = None
            return status.deleted("healthmonitors", [healthmonitor.healthmonitor_id])

        self._in_pool(healthmonitor.pool_id, change)

    # What looks into requests.

    def l7policy_create(self, l7policy: Any) -> NoReturn:
        """Refuse."""
        _refuse("midoryu does not look into requests: no L7 policies")

    def l7policy_update(self, old_l7policy: Any, new_l7policy: Any) -> NoReturn:
        """Refuse."""
        self.l7policy_create(new_l7policy)

    def l7rule_create(self, l7rule: Any) -> NoReturn:
        """Refuse."""
        _refuse("midoryu does not look into requests: no L7 rules")

    def l7rule_update(self, old_l7rule: Any, new_l7rule: Any) -> NoReturn:
        """Refuse."""
        self.l7rule_create(new_l7rule)

    # Helpers.

    def _in_balancer(self, owned: Any, change: Change) -> None:
        ident = owned.loadbalancer_id
        self._change(lambda tree: bool(tree["id"] == ident), change, ident)

    def _in_pool(self, pool: str, change: Change) -> None:
        self._change(lambda tree: pool in tree["pools"], change, pool)

    def _change(self, find: Find, change: Change, ident: str) -> None:
        done: list[tuple[Tree, Union[Statuses, None]]] = []

        def fill(transaction: Any, tables: Mapping[str, Any], index: Index) -> bool:
            tree = next(filter(find, status.trees(tables)), None)
            if tree is None:
                text = f"midoryu knows no load balancer with {ident}"
                raise exceptions.DriverError(
                    user_fault_string=text, operator_fault_string=text
                )
            done[:] = [(tree, self._checked(lambda: change(tree)))]
            return _put(tree["id"], tree, transaction, tables, index)

        self._nsdb(lambda: self._store.transact(fill))
        self._tell(*done[0])

    def _checked(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except UnsupportedError as problem:
            _refuse(str(problem))

    def _read(self, find: Find) -> Union[Tree, None]:
        def look(tables: Mapping[str, Any], _: Index) -> Union[Tree, None]:
            return next(filter(find, status.trees(tables)), None)

        return self._nsdb(lambda: self._store.read(look))

    def _write(self, ident: str, tree: Union[Tree, None]) -> None:
        self._nsdb(lambda: self._store.transact(partial(_put, ident, tree)))

    @staticmethod
    def _nsdb(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (NsdbError, KeyError) as problem:
            raise exceptions.DriverError(
                user_fault_string="midoryu's database did not take the change",
                operator_fault_string=f"NSDB: {problem}",
            ) from problem

    def _tell(self, tree: Tree, also: Union[Statuses, None] = None) -> None:
        found = self._nsdb(
            lambda: self._store.read(lambda tables, _: status.members_found(tables))
        )
        self._reporter.tell(status.merged(status.statuses(tree, found), also or {}))


def _put(
    ident: str,
    tree: Union[Tree, None],
    transaction: Any,
    tables: Mapping[str, Any],
    index: Index,
) -> bool:
    """Make the rows of a balancer follow its tree; None: there is none."""
    items = trees.items_of_tree(tree) if tree is not None else []
    wanted = {trees.unit_of(ident): items}
    changes = difference(index, wanted)
    if changes:
        write(transaction, tables, index, changes=changes, wanted=wanted)
    return bool(changes)


@lru_cache(maxsize=1)
def _of_process(pid: int) -> tuple[Store, Reporter]:
    """Return what a process has once: Octavia makes a driver for each request."""
    store = make_store()
    store.start()
    return store, Reporter(make_library)


def make_store() -> Store:
    """Make the connection that the options name."""
    options.register_opts(cfg.CONF)
    conf = cfg.CONF.midoryu
    certificates = Certificates(
        conf.nsdb_private_key, conf.nsdb_certificate, conf.nsdb_ca_cert
    )
    connection = "".join(conf.nsdb_connection.split())
    return Store(connection, timeout_s=conf.nsdb_timeout_s, certificates=certificates)


def make_library() -> Any:
    """Connect to Octavia's driver agent where its options say."""
    sockets = {}
    if "driver_agent" in cfg.CONF:
        agent = cfg.CONF.driver_agent
        for name in ("status", "stats", "get"):
            sockets[f"{name}_socket"] = agent[f"{name}_socket_path"]
    return driver_lib.DriverLibrary(**sockets)


def run_agent(exit_event: Any) -> None:
    """Tell Octavia what monitors find, until the driver agent ends."""
    store = make_store()
    try:
        status.watch(store, Reporter(make_library), exit_event.is_set)
    finally:
        store.close()


def _fields(thing: Any) -> dict[str, Any]:
    found: dict[str, Any] = thing.to_dict(recurse=True, render_unsets=False)
    return found


def _all_deleted(tree: Tree) -> Statuses:
    gone = [_pool_deleted(ident, pool) for ident, pool in tree["pools"].items()]
    return status.merged(status.deleted("listeners", tree["listeners"]), *gone)


def _pool_deleted(ident: str, pool: Mapping[str, Any]) -> Statuses:
    monitor = pool["monitor"]
    return status.merged(
        status.deleted("pools", [ident]),
        status.deleted("members", pool["members"]),
        status.deleted("healthmonitors", [monitor["id"]] if monitor else []),
    )


def _refuse(text: str) -> NoReturn:
    raise exceptions.UnsupportedOptionError(
        user_fault_string=text, operator_fault_string=text
    )
