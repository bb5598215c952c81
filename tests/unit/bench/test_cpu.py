# SPDX-License-Identifier: Apache-2.0
"""Whose CPU time counts for what."""

from __future__ import annotations

import pytest

from midoryu.bench.cpu import CONTROLLERS, SWITCHES, kind_of


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["ovs-vswitchd", "unix:/run/db.sock"], SWITCHES),
        (["/usr/bin/ovn-controller", "unix:/x"], CONTROLLERS),
        (["/venv/bin/python", "/venv/bin/ryu-manager", "midoryu.agent"], CONTROLLERS),
        (["iperf3", "-s", "ovs-vswitchd"], ""),
        ([], ""),
    ],
)
def test_a_command_line_tells_who_works(command: list[str], kind: str) -> None:
    assert kind_of(command) == kind
