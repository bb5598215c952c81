# SPDX-License-Identifier: Apache-2.0
"""The interface that has an address, as the kernel tells."""

from __future__ import annotations

import pytest

from midoryu.ovs.underlay import interface_mtu


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_interface_with_an_address_is_found(address: str) -> None:
    assert interface_mtu(address) == ("lo", 65536)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "no address"])
def test_nobodys_address_has_no_interface(address: str) -> None:
    assert interface_mtu(address) is None
