# SPDX-License-Identifier: Apache-2.0
"""How a balancer's parts fare, in Octavia's words."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.neutron.octavia_status import deleted, merged, statuses


def tree(*, monitored: bool = True, **members: dict[str, Any]) -> dict[str, Any]:
    parts = {
        ident: {"weight": 1, "up": True, **fields} for ident, fields in members.items()
    }
    monitor = {"id": "h", "up": True} if monitored else None
    return {
        "id": "b",
        "up": True,
        "listeners": {"l": {"up": True}},
        "pools": {"p": {"up": True, "members": parts, "monitor": monitor}},
    }


def operating(of: dict[str, Any], found: dict[str, bool]) -> dict[str, str]:
    said = statuses(of, found)
    assert all(
        entry["provisioning_status"] == "ACTIVE"
        for entries in said.values()
        for entry in entries
    )
    return {
        entry["id"]: entry["operating_status"]
        for entries in said.values()
        for entry in entries
    }


@pytest.mark.parametrize(
    ("found", "pool", "balancer"),
    [
        ({}, "ONLINE", "ONLINE"),
        ({"m": True, "o": True}, "ONLINE", "ONLINE"),
        ({"m": False}, "DEGRADED", "DEGRADED"),
        ({"m": False, "o": False}, "ERROR", "ERROR"),
    ],
)
def test_a_pool_fares_as_its_members(
    found: dict[str, bool], pool: str, balancer: str
) -> None:
    said = operating(tree(m={}, o={}), found)
    assert (said["p"], said["b"]) == (pool, balancer)
    assert said["l"] == said["h"] == "ONLINE"


def test_members_are_told_apart() -> None:
    members = {"a": {"up": False}, "d": {"weight": 0}, "m": {}}
    said = operating(tree(monitored=False, **members), {"m": False})
    assert (said["a"], said["d"], said["m"]) == ("OFFLINE", "DRAINING", "NO_MONITOR")


def test_a_pool_without_members_is_offline() -> None:
    assert operating(tree(), {})["p"] == "OFFLINE"


def test_what_is_gone_is_told_beside_what_is_there() -> None:
    said = merged(statuses(tree(m={}), {}), deleted("members", ["x"]))
    assert [entry["id"] for entry in said["members"]] == ["m", "x"]
    assert said["members"][1]["provisioning_status"] == "DELETED"
