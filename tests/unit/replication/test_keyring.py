# SPDX-License-Identifier: Apache-2.0
"""Keys change on one host after another, and no tag is refused on the way."""

from __future__ import annotations

import itertools

import pytest

from midoryu.replication.keyring import GRACE_S, Keyring

OLD, NEW, NEWEST = b"o" * 16, b"n" * 16, b"x" * 16
DATA = b"state"


def takes(receiver: Keyring, sender: Keyring) -> bool:
    return receiver.signer.verify(memoryview(DATA), sender.signer.tag(DATA))


@pytest.mark.parametrize(
    "files",
    [
        [(OLD,), (NEW,)],
        [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)],
        [(OLD,), (NEW, OLD), (NEW,)],
        [(OLD,), (NEW,), (NEWEST,)],
        [(OLD,), (NEW,), (OLD,)],
    ],
)
def test_hosts_that_change_within_the_grace_never_refuse_each_other(
    files: list[tuple[bytes, ...]],
) -> None:
    rings = [Keyring(files[0]) for _ in range(3)]
    now = 0.0
    for keys in files[1:]:
        for ring in rings:
            ring.change(keys, now)
            now += GRACE_S / 4
            for any_ring in rings:
                any_ring.step(now)
            assert all(takes(a, b) for a, b in itertools.permutations(rings, 2))
        # Not all steps of one file are over when the next one comes.
        for _ in range(4):
            now += GRACE_S / 4
            for any_ring in rings:
                any_ring.step(now)
            assert all(takes(a, b) for a, b in itertools.permutations(rings, 2))


def test_a_dropped_key_is_refused_after_the_grace() -> None:
    ring, stranger = Keyring([OLD]), Keyring([OLD])
    ring.change([NEW], 0.0)
    assert takes(ring, stranger)
    assert ring.due == GRACE_S
    ring.step(GRACE_S)
    assert takes(Keyring([NEW]), ring)
    assert takes(ring, stranger)
    ring.step(2 * GRACE_S)
    assert not takes(ring, stranger)
    assert ring.due is None


def test_a_key_that_all_should_have_signs_at_once() -> None:
    ring = Keyring([OLD, NEW])
    ring.change([NEW], 5.0)
    assert takes(Keyring([NEW]), ring)
    assert takes(ring, Keyring([OLD]))
    ring.step(5.0 + GRACE_S)
    assert not takes(ring, Keyring([OLD]))


def test_the_same_keys_again_change_nothing() -> None:
    ring = Keyring([OLD])
    ring.change([OLD], 5.0)
    assert ring.due is None


def test_a_file_that_is_edited_in_a_loop_keeps_a_bounded_number_of_keys() -> None:
    ring = Keyring([OLD])
    for number in range(100):
        ring.change([number.to_bytes(16, "big")], number / 100)
    assert len(ring._active) <= 16
    assert takes(Keyring([OLD]), ring)
