# SPDX-License-Identifier: Apache-2.0
"""Prints the table of requirements."""

from __future__ import annotations

import tests.scenarios.rfc.test_nat as _rows
from tests.scenarios.rfc.table import TABLE

if __name__ == "__main__":
    assert _rows
    for row in sorted(TABLE):
        print(f"{row.rfc} {row.number:9} {row.level.value:6} {row.asks}")
        print(f"     {row.answer}{f' ({row.test})' if row.test else ''}")
