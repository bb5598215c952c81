# SPDX-License-Identifier: Apache-2.0
"""A Neutron QoS policy -> its row.

Pure. Directions are the same: policies are seen from the instance in both, whose egress
is what it sends (`topology.l2`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from midoryu.neutron import unit
from midoryu.nsdb.item import Item, Value, make_item

BANDWIDTH: Final = "bandwidth_limit"
DSCP: Final = "dscp_marking"


def policy_items(policy: str, rules: Iterable[Mapping[str, Any]]) -> list[Item]:
    """Make the row of a policy; none for one without rules that midoryu knows.

    Args:
        policy: Neutron's id of it.
        rules: its rules, each with its `type`.
    """
    columns: dict[str, Value] = {}
    for rule in rules:
        if rule["type"] == BANDWIDTH and rule["max_kbps"]:
            way = rule.get("direction") or "egress"
            columns[f"{way}_kbps"] = rule["max_kbps"]
            if rule.get("max_burst_kbps"):
                columns[f"{way}_burst_kb"] = rule["max_burst_kbps"]
        elif rule["type"] == DSCP:
            columns["dscp"] = rule["dscp_mark"]
    if not columns:
        return []
    return [make_item("Qos", {"name": unit.policy_name(policy), **columns})]
