# SPDX-License-Identifier: Apache-2.0
"""The delivery of a copy, as bytes and back."""

from __future__ import annotations

import pytest

from midoryu.errors import DecodeError
from midoryu.openflow.wire_deliver import deliver, delivered_key


def test_a_delivery_is_a_clone_that_the_datapath_keeps() -> None:
    # NXAST_CLONE (42), set-field tun_id, NXAST_OUTPUT_TRUNC (39), NXAST_RESUBMIT_TABLE
    # (14), as ovs-ofctl 3.1 encodes the text in the module's docstring.
    wanted = (
        "ffff 0040 00002320 002a 000000000000"
        "0019 0010 80004c08 0000000000000007"
        "ffff 0010 00002320 0027 feff 00000040"
        "ffff 0010 00002320 000e fff8 14 000000"
    )

    assert deliver(7) == bytes.fromhex(wanted)


def test_the_key_comes_back() -> None:
    assert delivered_key(deliver(0xABCDEF)) == 0xABCDEF


@pytest.mark.parametrize("at", [9, 40, 60])
def test_another_clone_is_refused(at: int) -> None:
    body = bytearray(deliver(7))
    body[at] ^= 1

    with pytest.raises(DecodeError, match="no delivery"):
        delivered_key(bytes(body))
