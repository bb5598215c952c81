# SPDX-License-Identifier: Apache-2.0
"""Make the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "a1f0c2d3e4b5"
down_revision = None
branch_labels = None


def upgrade() -> None:
    """Add the table `midoryu_journal`."""
    op.create_table(
        "midoryu_journal",
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=True),
        sa.Column("unit", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
    )
