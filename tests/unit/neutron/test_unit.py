# SPDX-License-Identifier: Apache-2.0
"""Names of rows, and who writes them."""

from __future__ import annotations

from typing import Union

import pytest

from midoryu.neutron import unit


@pytest.mark.parametrize(
    ("table", "name", "owner"),
    [
        ("Network", unit.device_name("n"), "network:n"),
        ("Network", unit.physical_name("public"), "physical-network:public"),
        ("Router", unit.device_name("r"), "router:r"),
        ("Port", unit.port_name("n", "p"), "port:p"),
        ("Port", unit.uplink_name(unit.device_name("n"), "x", "h"), "network:n"),
        (
            "Port",
            unit.uplink_name(unit.physical_name("x"), "x", "h", 7),
            "physical-network:x",
        ),
        ("Chain", unit.group_chain("g-1", "from"), "security-group:g-1"),
        ("Chain", unit.port_chain("p", "from"), None),
        ("Address_Group", unit.members_name("g-1"), "security-group:g-1"),
        ("Address_Group", unit.address_group_name("a-1"), "address-group:a-1"),
        ("Qos", unit.policy_name("q-1"), "qos-policy:q-1"),
        ("Host", "h", None),
        ("Network", "somebody's", None),
    ],
)
def test_owner_of_a_row_follows_from_its_name(
    table: str, name: str, owner: Union[str, None]
) -> None:
    assert unit.owner_of(table, name) == owner


def test_unit_comes_apart_again() -> None:
    assert unit.kind_and_id(unit.unit(unit.PORT, "a:b")) == ("port", "a:b")
