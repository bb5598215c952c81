# SPDX-License-Identifier: Apache-2.0
"""Tags are distinct by kind, and readable."""

from __future__ import annotations

import pytest

from midoryu.topology import tag

STATE_KEY = (1, 6, 10, 20, 30, 40)


def test_no_two_kinds_share_a_tag() -> None:
    one = [
        tag.device_tag(1),
        tag.vport_tag(1),
        tag.mac_tag(1, 1),
        tag.neighbor_tag(1, 1),
        tag.chain_tag("1"),
        tag.member_tag(1),
        tag.flood_tag(1),
        tag.host_tag(1),
        tag.interest_tag(1),
    ]

    assert len(set(one)) == len(one)
    assert all(len(each) < len(STATE_KEY) for each in one)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (tag.device_tag(5), "device/5"),
        (tag.mac_tag(5, 7), "mac/5/7"),
        (tag.chain_tag("abc"), "chain/abc"),
        (tag.interest_tag(2), "interest/2"),
        (STATE_KEY, "state/1/6/10/20/30/40"),
    ],
)
def test_tag_reads_as_words(value: tag.Tag, text: str) -> None:
    assert tag.describe(value) == text
