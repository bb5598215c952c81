# SPDX-License-Identifier: Apache-2.0
"""Unit tests mirror `midoryu/` file by file.

`tests/unit/ROOM/test_FILE.py` tests `midoryu/ROOM/FILE.py` (`helpers` stands for
`tests/helpers`), and each file with logic in the core has one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "midoryu"
UNIT = ROOT / "tests" / "unit"
CORE = (
    "packet",
    "topology",
    "openflow",
    "state",
    "simulation",
    "translation",
    "replication",
    "engine",
)
# Tests about the project as a whole.
WITHOUT_A_FILE = {"test_layers.py", "test_mirror.py", "test_readme.py"}
# Plain values and constants: nothing in them could go wrong alone.
PLAIN_VALUES = {
    "packet/field.py",
    "packet/packet.py",
    "packet/protocol.py",
    "topology/balancer_row.py",
    "topology/l2.py",
    "topology/model.py",
    "topology/rule.py",
    "topology/tag.py",
    "openflow/flow.py",
    "openflow/pipeline.py",
    "simulation/outcome.py",
    "simulation/world.py",
    "engine/block_book.py",
    "engine/config.py",
    "engine/effect.py",
    "engine/event.py",
}


def unit_test_files() -> list[Path]:
    return sorted(p.relative_to(UNIT) for p in UNIT.rglob("test_*.py"))


def core_files() -> list[Path]:
    files = [p for room in CORE for p in (PACKAGE / room).rglob("*.py")]
    return sorted(p.relative_to(PACKAGE) for p in files if p.name != "__init__.py")


@pytest.mark.parametrize("path", unit_test_files(), ids=str)
def test_unit_test_mirrors_a_file(path: Path) -> None:
    if path.as_posix() in WITHOUT_A_FILE:
        return
    folder = ROOT / "tests" if path.parts[0] == "helpers" else PACKAGE
    target = folder / path.with_name(path.name.removeprefix("test_"))

    assert target.exists(), f"tests/unit/{path} tests no file"


@pytest.mark.parametrize("path", core_files(), ids=str)
def test_core_file_has_a_unit_test(path: Path) -> None:
    if path.as_posix() in PLAIN_VALUES:
        return
    mirror = UNIT / path.with_name(f"test_{path.name}")

    assert mirror.exists(), f"midoryu/{path} has no tests/unit/{mirror.name}"


@pytest.mark.parametrize("name", sorted(PLAIN_VALUES))
def test_exempt_file_exists(name: str) -> None:
    assert (PACKAGE / name).exists(), f"{name} is gone; shorten the list"
