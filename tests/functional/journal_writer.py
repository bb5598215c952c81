# SPDX-License-Identifier: Apache-2.0
"""Writes records 1, 2, 3 ... through a journal until it is killed.

Prints the number up to which everything is in the file. With a second argument it
stops at that number, closes the journal and prints what it has to report.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from midoryu.agent.journal import Journal
    from midoryu.engine.effect import JournalWrite

BURST = 100


def entry_of(number: int) -> bytes:
    """Return the entry of a record."""
    return b"record %d " % number + bytes([number % 256]) * 60


def main(path: str, last: int) -> None:
    """Write until the end, or for ever."""
    journal = Journal(path, 1 << 30, retry_s=0.1)
    start = sum(len(chunk) for chunk in journal.read())
    journal.start()
    number = start
    while number < last:
        burst = range(number + 1, number + 1 + BURST)
        journal.record(JournalWrite(one, entry_of(one)) for one in burst)
        number += BURST
        print(start + journal.counters["records_written"], flush=True)
        time.sleep(0.002)
    end = time.monotonic() + 10.0
    while journal.stats()["records_waiting"] and time.monotonic() < end:
        time.sleep(0.05)
    is_whole = journal.close(5.0)
    for level, message in journal.take_reports():
        print(level, message)
    print("all written" if is_whole else "not all written", journal.stats())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1 << 62)
