# SPDX-License-Identifier: Apache-2.0
"""Traffic for suite `network`: what runs inside a machine's namespace.

`python -m midoryu.bench.load serve|first|steady|connect|gap|flood ...`; each but the
first prints one JSON object. `network` and `fairness` start these.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

_TIMEOUT_S: Final = 1.0
_GAP_INTERVAL_S: Final = 0.005
_PAYLOAD: Final = b"midoryu bench"


def serve(port: int) -> None:
    """Echo UDP datagrams and end TCP connections when their client does."""
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind(("0.0.0.0", port))
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(echo, select.EPOLLIN)
    poll.register(listener, select.EPOLLIN)
    open_by_fd: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == echo.fileno():
                echo.sendto(*echo.recvfrom(2048))
            elif number == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        client, _ = listener.accept()
                        open_by_fd[client.fileno()] = client
                        poll.register(client, select.EPOLLIN)
            else:
                poll.unregister(number)
                open_by_fd.pop(number).close()


def _exchange(one: socket.socket, target: tuple[str, int]) -> float:
    """Return a round trip in seconds; nan when nothing came back."""
    begin = time.perf_counter()
    one.sendto(_PAYLOAD, target)
    try:
        one.recv(2048)
    except socket.timeout:
        return float("nan")
    return time.perf_counter() - begin


def first(target: tuple[str, int], count: int) -> dict[str, object]:
    """Send the first packet of `count` new flows, one after the other.

    Returns:
        `first` and `second` round trips in ms, one for each flow that was answered.
    """
    firsts, seconds = [], []
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(_TIMEOUT_S)
            firsts.append(_exchange(one, target) * 1e3)
            seconds.append(_exchange(one, target) * 1e3)
    return {
        "first": [x for x in firsts if x == x],
        "second": [x for x in seconds if x == x],
        "lost": sum(x != x for x in firsts + seconds),
    }


def steady(target: tuple[str, int], count: int) -> dict[str, object]:
    """Exchange `count` packets of one flow; return their round trips in ms."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(_TIMEOUT_S)
        _exchange(one, target)
        trips = [_exchange(one, target) * 1e3 for _ in range(count)]
    return {"steady": [x for x in trips if x == x], "lost": sum(x != x for x in trips)}


def connect(
    target: tuple[str, int], in_flight: int, seconds: float
) -> dict[str, object]:
    """Open and close TCP connections for so long, so many at once.

    Returns:
        `rate` in connections/s, `failed` ones (refused, or not open after a second).
    """
    poll = select.epoll()
    waiting: dict[int, tuple[socket.socket, float]] = {}
    done = failed = 0
    begin = time.perf_counter()
    end, now = begin + seconds, begin
    while now < end:
        while len(waiting) < in_flight:
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            one.setblocking(False)
            one.connect_ex(target)
            waiting[one.fileno()] = (one, now)
            poll.register(one, select.EPOLLOUT | select.EPOLLONESHOT)
        for number, events in poll.poll(0.1):
            one, _ = waiting.pop(number)
            one.close()
            if events & (select.EPOLLERR | select.EPOLLHUP):
                failed += 1
            else:
                done += 1
        now = time.perf_counter()
        for number, (one, since) in list(waiting.items()):
            if now - since <= _TIMEOUT_S:
                break
            del waiting[number]
            one.close()
            failed += 1
    for one, _ in waiting.values():
        one.close()
    return {"rate": done / (now - begin), "failed": failed}


def gap(target: tuple[str, int], seconds: float) -> dict[str, object]:
    """Exchange numbered datagrams every 5 ms; print "ready" once the first came back.

    Returns:
        `gap`: longest time between two answers in ms; `lost`: unanswered ones.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(_TIMEOUT_S)
        _exchange(one, target)
        print("ready", flush=True)
        one.setblocking(False)
        sent, heard, longest = 0, set[bytes](), 0.0
        begin = last = time.perf_counter()
        while (now := time.perf_counter()) < begin + seconds:
            if now >= begin + sent * _GAP_INTERVAL_S:
                with contextlib.suppress(OSError):
                    one.sendto(str(sent).encode(), target)
                sent += 1
            if not select.select([one], [], [], _GAP_INTERVAL_S / 2)[0]:
                continue
            with contextlib.suppress(OSError):
                heard.add(one.recv(2048))
                longest, last = max(longest, time.perf_counter() - last), now
        longest = max(longest, time.perf_counter() - last)
    return {"gap": longest * 1e3, "lost": sent - len(heard)}


def flood(address: str, pps: int, seconds: float) -> dict[str, object]:
    """Send datagrams to random ports for so long, each one a new flow.

    Returns:
        `sent`: how many.
    """
    dice, sent = random.Random(1), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        begin = time.perf_counter()
        while (now := time.perf_counter()) < begin + seconds:
            while sent < (now - begin) * pps:
                with contextlib.suppress(OSError):
                    one.sendto(_PAYLOAD, (address, dice.randrange(10_000, 65_536)))
                sent += 1
            time.sleep(0.002)
    return {"sent": sent}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one load; print its result."""
    parser = argparse.ArgumentParser(prog="python -m midoryu.bench.load")
    loads = ("serve", "first", "steady", "connect", "gap", "flood")
    parser.add_argument("load", choices=loads)
    parser.add_argument("--to", default="", metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=7007)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args(arguments)
    target = (options.to, options.port)
    if options.load == "serve":
        serve(options.port)
        return 0
    result = {
        "first": lambda: first(target, options.count),
        "steady": lambda: steady(target, options.count),
        "connect": lambda: connect(target, options.in_flight, options.seconds),
        "gap": lambda: gap(target, options.seconds),
        "flood": lambda: flood(options.to, options.count, options.seconds),
    }[options.load]()
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
