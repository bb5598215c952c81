# SPDX-License-Identifier: Apache-2.0
"""The one table that the drivers add to Neutron's database: the journal.

`migration` makes it (`neutron-db-manage --subproject midoryu upgrade head`), `journal`
reads and writes it.
"""

from __future__ import annotations

import sqlalchemy as sa
from neutron_lib.db import model_base


class JournalEntry(model_base.BASEV2):
    """A unit whose rows in the NSDB may be wrong."""

    __tablename__ = "midoryu_journal"

    seq = sa.Column(
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    )
    unit = sa.Column(sa.String(64), nullable=False)
    created_at = sa.Column(sa.DateTime(), nullable=False)
    attempts = sa.Column(sa.Integer(), nullable=False, server_default="0")
    """How often the NSDB refused the unit."""
