# SPDX-License-Identifier: Apache-2.0
"""The one exception of the lab; every other room of it raises this one.

Its text is what the person at the terminal reads, so it names what and where.
"""

from __future__ import annotations

from midoryu.errors import MidoryuError


class LabError(MidoryuError):
    """The lab file is wrong, or a step of the lab failed."""
