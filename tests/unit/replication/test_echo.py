# SPDX-License-Identifier: Apache-2.0
"""The question that a peer's switch answers."""

from __future__ import annotations

import pytest

from midoryu.openflow.pipeline import ECHO_MAC, ECHOED_MAC
from midoryu.replication.echo import Echoes
from midoryu.replication.speaker import Speaker
from midoryu.replication.wire import Refusal, Signer, StatePacketError

ME, PEER, EPOCH, NOW = 7, 9, 100, 50.0
KEY = b"k" * 16


def echoes(host: int = ME, epoch: int = EPOCH, key: bytes = KEY) -> Echoes:
    signer = Signer([key])
    speaker = Speaker(host, epoch, signer, mtu_bytes=1500, is_repaired=True)
    return Echoes(host, speaker, signer)


def ask(one: Echoes, now: float = NOW) -> bytes:
    """Ask one peer; return what its switch makes of the question."""
    (datagram,) = one.ask([PEER], now)
    assert datagram.peer == PEER
    assert datagram.frame[:6] == ECHO_MAC.to_bytes(6, "big")
    assert not one.is_answer(datagram.frame)
    return ECHOED_MAC.to_bytes(6, "big") + datagram.frame[6:]


def test_what_comes_back_tells_by_whom() -> None:
    one = echoes()
    frame = ask(one)
    for late_s in (0.0, 0.2, 0.4):
        assert one.is_answer(frame)
        assert one.answerer(frame, NOW + late_s) == PEER
        ask(one, NOW + late_s)


def test_an_old_answer_proves_nothing() -> None:
    one = echoes()
    frame = ask(one)
    ask(one, NOW + 0.6)
    with pytest.raises(StatePacketError) as caught:
        one.answerer(frame, NOW + 0.6)
    assert caught.value.refusal is Refusal.DUPLICATE


@pytest.mark.parametrize(
    ("frame", "refusal"),
    [
        (ask(echoes(host=8)), Refusal.RECEIVER),
        (ask(echoes(key=b"other" * 4)), Refusal.TAG),
        (ask(echoes(epoch=EPOCH - 1)), Refusal.DUPLICATE),
        (ask(echoes())[:60], Refusal.TRUNCATED),
        (ask(echoes())[:20], Refusal.TRUNCATED),
    ],
    ids=["another's", "forged", "earlier life", "cut", "stub"],
)
def test_what_is_not_this_hosts_is_refused(frame: bytes, refusal: Refusal) -> None:
    one = echoes()
    ask(one)
    with pytest.raises(StatePacketError) as caught:
        one.answerer(frame, NOW)
    assert caught.value.refusal is refusal
