# SPDX-License-Identifier: Apache-2.0
"""Items that say more in `external_ids` than whose they are.

A port's row names its instance and project, for the metadata proxy; every row carries
its unit (`writer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from midoryu.compat import SLOTS
from midoryu.nsdb.item import Item

UNIT_KEY: Final = "neutron:unit"
"""Names the unit that a row belongs to."""
INSTANCE_KEY: Final = "neutron:device_id"
PROJECT_KEY: Final = "neutron:project_id"


@dataclass(frozen=True, **SLOTS)
class LabelledItem(Item):
    """An item with labels."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Keys and values for `external_ids`."""


def labelled(item: Item, labels: Mapping[str, str]) -> Item:
    """Give an item labels; empty ones are left out."""
    kept = {key: value for key, value in labels.items() if value}
    return LabelledItem(item.table, item.name, item.columns, kept)


def labels_of(item: Item) -> Mapping[str, str]:
    """Return an item's labels."""
    return item.labels if isinstance(item, LabelledItem) else {}
