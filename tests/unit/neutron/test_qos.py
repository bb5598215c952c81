# SPDX-License-Identifier: Apache-2.0
"""A QoS policy -> its row."""

from __future__ import annotations

from midoryu.neutron.qos import policy_items


def test_what_the_instance_sends_enters_the_virtual_network() -> None:
    rules = [
        {"type": "bandwidth_limit", "max_kbps": 1000, "max_burst_kbps": 80},
        {"type": "bandwidth_limit", "max_kbps": 2000, "direction": "ingress"},
        {"type": "dscp_marking", "dscp_mark": 26},
    ]

    (item,) = policy_items("q", rules)

    assert item.columns == {
        "name": "neutron-qos-q",
        "egress_kbps": 1000,
        "egress_burst_kb": 80,
        "ingress_kbps": 2000,
        "ingress_burst_kb": None,
        "dscp": 26,
    }


def test_policy_of_other_rules_has_no_row() -> None:
    assert policy_items("q", [{"type": "minimum_bandwidth", "min_kbps": 1}]) == []
