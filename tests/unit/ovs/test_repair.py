# SPDX-License-Identifier: Apache-2.0
"""What is read from the rows of the local OVSDB."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from midoryu.ovs.repair import _bound_cache, errors_of, ofport_by_iface_id


def interface(name: str, iface_id: str = "", ofport: int = 0, error: str = ""):
    """Make a row like the IDL's."""
    return SimpleNamespace(
        name=name,
        ofport=[ofport] if ofport else [],
        external_ids={"iface-id": iface_id} if iface_id else {},
        error=[error] if error else [],
        link_state=["up"],
    )


def test_only_interfaces_with_an_iface_id_and_a_number_are_reported() -> None:
    rows = [
        interface("tap1", "web/vm1", 5),
        interface("tap2", "web/vm2", -1),
        interface("tap3", "web/vm3"),
        interface("mr-gre", "", 1),
    ]

    assert ofport_by_iface_id(rows) == ({"web/vm1": 5}, [])


def test_interface_without_a_carrier_is_not_reported() -> None:
    cut = interface("tap1", "provider/uplink1", 5)
    cut.link_state = ["down"]

    assert ofport_by_iface_id([cut]) == ({}, [])


def test_the_first_of_two_interfaces_with_one_iface_id_wins() -> None:
    rows = [interface("tap1", "web/vm1", 5), interface("tap2", "web/vm1", 6)]

    ofports, warnings = ofport_by_iface_id(rows)

    assert ofports == {"web/vm1": 5}
    (warning,) = warnings
    assert "tap2" in warning
    assert "tap1 has already" in warning


def test_a_tunnel_port_that_ovs_cannot_make_is_told() -> None:
    rows = [interface("mr-gre", error="no such device"), interface("tap", error="x")]

    assert errors_of(rows) == ["OVS could not make mr-gre: no such device"]


@pytest.mark.parametrize(
    ("other_config", "idle_ms", "expected"),
    [
        ({}, 500, {"max-idle": "500"}),
        ({"max-idle": "10000"}, 500, {"max-idle": "10000"}),
        ({"n-handler-threads": "2"}, 0, {"n-handler-threads": "2"}),
    ],
    ids=["nobody set it", "an operator did", "left to OVS"],
)
def test_what_an_operator_set_for_the_cache_stays(
    other_config: dict[str, str], idle_ms: int, expected: dict[str, str]
) -> None:
    class Root:
        def __init__(self) -> None:
            self.other_config = dict(other_config)

        def setkey(self, _: str, key: str, value: str) -> None:
            self.other_config[key] = value

    root = Root()
    _bound_cache(root, idle_ms)

    assert root.other_config == expected
