# SPDX-License-Identifier: Apache-2.0
"""What alembic runs for `neutron-db-manage --subproject midoryu`.

A version table of its own keeps Neutron's revisions and these apart.
"""

from __future__ import annotations

from typing import Any, Final

from alembic import context
from neutron.db.migration.connection import DBConnection
from neutron_lib.db import model_base

from midoryu.neutron import model

VERSION_TABLE: Final = "midoryu_alembic_version"


def include_object(found: Any, name: str, kind: str, *_: Any) -> bool:
    """Look at the drivers' own table only."""
    return kind != "table" or name == model.JournalEntry.__tablename__


def run() -> None:
    """Upgrade, or print how."""
    neutron = context.config.neutron_config
    metadata = model_base.BASEV2.metadata
    if context.is_offline_mode():
        place = (
            {"url": neutron.database.connection}
            if neutron.database.connection
            else {"dialect_name": neutron.database.engine}
        )
        context.configure(
            version_table=VERSION_TABLE, include_object=include_object, **place
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    with DBConnection(
        neutron.database.connection, context.config.attributes.get("connection")
    ) as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_object=include_object,
            version_table=VERSION_TABLE,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
