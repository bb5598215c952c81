# SPDX-License-Identifier: Apache-2.0
"""Octavia's objects -> the tree of a balancer -> rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from midoryu.neutron import octavia_tree as trees
from midoryu.neutron.label import labels_of
from midoryu.neutron.octavia_tree import Tree, UnsupportedError, items_of_tree
from midoryu.nsdb.item import Item

LISTENER = {
    "listener_id": "l",
    "loadbalancer_id": "b",
    "protocol": "TCP",
    "protocol_port": 80,
    "connection_limit": -1,
}
POOL = {"pool_id": "p", "protocol": "TCP", "lb_algorithm": "SOURCE_IP_PORT"}
MEMBER = {
    "member_id": "m",
    "pool_id": "p",
    "address": "10.0.0.5",
    "protocol_port": 8080,
}
MONITOR = {
    "healthmonitor_id": "h",
    "pool_id": "p",
    "type": "HTTP",
    "delay": 5,
    "timeout": 2,
    "max_retries": 2,
    "max_retries_down": 3,
    "url_path": "/ok",
    "expected_codes": "200, 202-204",
}


def empty(**more: Any) -> Tree:
    return trees.make_tree(
        {
            "loadbalancer_id": "b",
            "vip_address": "10.0.0.100",
            "vip_network_id": "n",
            **more,
        }
    )


def whole() -> Tree:
    tree = empty()
    trees.put_listener(tree, LISTENER)
    trees.put_pool(tree, {**POOL, "listener_id": "l"})
    trees.put_member(tree, MEMBER)
    trees.put_monitor(tree, MONITOR)
    return tree


def rows(tree: Tree, table: str) -> list[Item]:
    return [item for item in items_of_tree(tree) if item.table == table]


def test_a_balancer_stands_on_the_network_of_its_vip() -> None:
    (found,) = rows(empty(), "Load_Balancer")
    assert found.columns["network"] == "neutron-n"
    assert found.columns["up"] is True


def test_a_listener_without_a_pool_has_an_empty_one() -> None:
    tree = empty()
    trees.put_listener(tree, LISTENER)
    (vip,) = rows(tree, "Vip")
    (pool,) = rows(tree, "Pool")
    assert vip.columns["pool"] == pool.name
    assert (vip.columns["ip_proto"], vip.columns["l4_port"]) == (6, 80)


def test_all_parts_of_a_balancer_become_rows() -> None:
    tree = whole()
    (vip,) = rows(tree, "Vip")
    (pool,) = rows(tree, "Pool")
    (member,) = rows(tree, "Pool_Member")
    (monitor,) = rows(tree, "Health_Monitor")
    assert vip.columns["pool"] == pool.name == member.columns["pool"]
    assert (member.columns["address"], member.columns["l4_port"]) == ("10.0.0.5", 8080)
    assert labels_of(member)[trees.MEMBER_KEY] == "m"
    assert monitor.columns["interval"] == 5000
    assert monitor.columns["codes"] == ("200", "202-204")
    assert (monitor.columns["rise"], monitor.columns["fall"]) == (2, 3)


def test_a_balancer_may_come_with_all_that_it_has() -> None:
    pool = {**POOL, "members": [MEMBER], "healthmonitor": MONITOR}
    listener = {**LISTENER, "default_pool": pool}
    assert empty(listeners=[listener], pools=[pool]) == whole()


def test_additional_vips_have_each_listener() -> None:
    tree = empty(additional_vips=[{"ip_address": "fd00::100", "network_id": "n"}])
    trees.put_listener(tree, LISTENER)
    addresses = {vip.columns["address"] for vip in rows(tree, "Vip")}
    assert addresses == {"10.0.0.100", "fd00::100"}


def test_what_a_change_does_not_name_stays() -> None:
    tree = whole()
    before = items_of_tree(tree)
    trees.put_listener(tree, {"listener_id": "l"})
    trees.put_pool(tree, {"pool_id": "p"})
    trees.put_member(tree, {"member_id": "m", "pool_id": "p"})
    trees.put_monitor(tree, {"pool_id": "p"})
    trees.change_balancer(tree, {})
    assert items_of_tree(tree) == before


@pytest.mark.parametrize(
    ("algorithm", "persistence", "affinity"),
    [
        ("SOURCE_IP_PORT", None, 0),
        ("SOURCE_IP", None, 360),
        ("SOURCE_IP_PORT", {"type": "SOURCE_IP"}, 360),
        ("SOURCE_IP_PORT", {"type": "SOURCE_IP", "persistence_timeout": 9}, 9),
    ],
)
def test_clients_come_back_as_algorithm_and_persistence_say(
    algorithm: str, persistence: Any, affinity: int
) -> None:
    tree = empty()
    wish = {"lb_algorithm": algorithm, "session_persistence": persistence}
    trees.put_pool(tree, {**POOL, **wish})
    assert rows(tree, "Pool")[0].columns["affinity"] == affinity


def test_what_is_disabled_has_no_vip_no_monitor_and_no_member_that_is_up() -> None:
    tree = whole()
    trees.put_listener(tree, {"listener_id": "l", "admin_state_up": False})
    trees.put_pool(tree, {"pool_id": "p", "admin_state_up": False})
    trees.put_monitor(tree, {"pool_id": "p", "admin_state_up": False})
    assert rows(tree, "Vip") == rows(tree, "Health_Monitor") == []
    assert rows(tree, "Pool_Member")[0].columns["up"] is False


def test_a_pool_that_goes_leaves_its_listener_without_one() -> None:
    tree = whole()
    trees.delete_pool(tree, "p")
    (vip,) = rows(tree, "Vip")
    assert vip.columns["pool"] == "octavia-listener-l"
    trees.delete_listener(tree, "l")
    assert [item.table for item in items_of_tree(tree)] == ["Load_Balancer"]


@pytest.mark.parametrize(
    ("put", "fields"),
    [
        (trees.put_listener, {**LISTENER, "protocol": "TERMINATED_HTTPS"}),
        (trees.put_listener, {**LISTENER, "allowed_cidrs": ["10.0.0.0/8"]}),
        (trees.put_pool, {**POOL, "lb_algorithm": "ROUND_ROBIN"}),
        (trees.put_pool, {**POOL, "tls_enabled": True}),
        (trees.put_pool, {**POOL, "session_persistence": {"type": "HTTP_COOKIE"}}),
        (trees.put_member, {**MEMBER, "backup": True}),
        (trees.put_member, {**MEMBER, "monitor_port": 9}),
        (trees.put_member, {**MEMBER, "address": "fd00::5"}),
        (trees.put_monitor, {**MONITOR, "type": "HTTPS"}),
        (trees.put_monitor, {**MONITOR, "http_method": "POST"}),
    ],
)
def test_what_packets_cannot_do_is_refused(
    put: Callable[[Tree, Any], None], fields: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError):
        put(whole(), fields)


def test_additional_vips_elsewhere_are_refused() -> None:
    with pytest.raises(UnsupportedError):
        empty(additional_vips=[{"ip_address": "10.1.0.9", "network_id": "other"}])
