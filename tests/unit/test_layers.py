# SPDX-License-Identifier: Apache-2.0
"""The direction rule: rooms import only from strictly lower layers.

Reads the syntax tree of every module under `midoryu/`, so nothing is imported here.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "midoryu"

LAYER_BY_ROOM = {
    "compat": 0,
    "errors": 0,
    "packet": 0,
    "topology": 1,
    "openflow": 1,
    "state": 2,
    "simulation": 3,
    "translation": 4,
    "replication": 4,
    "engine": 5,
    "agent": 6,
    "ovs": 6,
    "nsdb": 6,
    "conf": 7,
    "cmd": 7,
    "cli": 7,
    "api": 7,
    "lab": 7,
    "bench": 8,
    "neutron": 8,
}
CORE_TOP_LAYER = 5
# Modules that anybody may use: they hold no logic.
COMMON = {"compat", "errors"}
# The agent is the process that joins the rims and reads the options; entry points read
# options too. Nothing imports these three back.
MAY_ALSO_IMPORT = {
    "agent": {"conf", "nsdb", "ovs"},
    "cmd": {"conf"},
    "cli": {"conf"},
    "api": {"conf"},
}
FORBIDDEN_PAIRS = {("simulation", "openflow")}

BANNED_IN_CORE = {
    "asyncio", "concurrent", "ctypes", "glob", "io", "logging", "multiprocessing",
    "os", "pathlib", "random", "secrets", "selectors", "shutil", "signal", "socket",
    "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
# `open` reads files and the rest breaks "data in, data out" as well.
BANNED_CALLS_IN_CORE = {"open", "print", "input", "exec", "eval", "__import__"}
SWITCH_LIBRARIES = {"ryu", "os_ken"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.Module, path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything that a module imports."""
    package = [*path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{stem}.{alias.name}"


def violation(room: str, imported: str) -> str:
    """Say why a room may not import something; nothing when it may."""
    top, _, rest = imported.partition(".")
    if top != "midoryu":
        return foreign_violation(room, top)
    other = rest.partition(".")[0]
    if other not in LAYER_BY_ROOM:
        # `from midoryu import __version__` and the like
        return "" if not (PACKAGE / other).is_dir() else f"room {other} has no layer"
    if other == room or (other in COMMON and room not in COMMON):
        return ""
    if other in MAY_ALSO_IMPORT.get(room, ()):
        return ""
    if (room, other) in FORBIDDEN_PAIRS:
        return f"{room} must not know {other}"
    if LAYER_BY_ROOM[other] >= LAYER_BY_ROOM[room]:
        ours, theirs = LAYER_BY_ROOM[room], LAYER_BY_ROOM[other]
        return f"{room} (layer {ours}) must not import {other} (layer {theirs})"
    return ""


def standard_library() -> frozenset[str]:
    """Return the names of Python's own modules (3.9 has no list of them)."""
    listed = getattr(sys, "stdlib_module_names", None)
    if listed is not None:
        return frozenset(listed)
    folder = Path(sysconfig.get_paths()["stdlib"])
    names = {path.stem for path in folder.iterdir() if path.stem != "site-packages"}
    extensions = {path.name.partition(".")[0] for path in folder.glob("lib-dynload/*")}
    return frozenset(names | extensions | set(sys.builtin_module_names))


def foreign_violation(room: str, top: str) -> str:
    if top in SWITCH_LIBRARIES and room != "agent":
        # midoryu's ryu-manager is a thin door in front of ryu's own; the bench compares
        # with Ryu alone.
        return "" if room in ("cmd", "bench") else f"only agent imports {top}"
    if LAYER_BY_ROOM[room] > CORE_TOP_LAYER:
        return ""
    if top not in standard_library():
        return f"the core imports only the standard library, not {top}"
    return f"the core must not import {top}" if top in BANNED_IN_CORE else ""


def test_every_room_has_a_layer() -> None:
    rooms = {room_of(path) for path in modules()} - {"__init__"}

    assert rooms <= set(LAYER_BY_ROOM)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_module_imports_only_from_lower_layers(path: Path) -> None:
    room = room_of(path)
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))

    found = [
        f"{name_of(path)}:{line}: {imported}: {reason}"
        for line, imported in imports(tree, path)
        if room != "__init__" and (reason := violation(room, imported))
    ]

    assert found == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_core_module_touches_no_file_or_terminal(path: Path) -> None:
    if LAYER_BY_ROOM.get(room_of(path), 0) > CORE_TOP_LAYER:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))

    found = [
        f"{name_of(path)}:{node.lineno}: {node.func.id}()"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in BANNED_CALLS_IN_CORE
    ]

    assert found == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_module_has_no_global_statement(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))

    assert [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Global)] == []


@pytest.mark.parametrize(
    ("room", "imported"),
    [
        pytest.param("packet", "midoryu.topology.model", id="upwards"),
        pytest.param("topology", "midoryu.openflow.flow", id="sideways"),
        pytest.param("simulation", "midoryu.openflow.flow", id="forbidden pair"),
        pytest.param("state", "time", id="clock"),
        pytest.param("engine", "ryu.base", id="ryu in the core"),
        pytest.param("ovs", "os_ken.lib", id="os_ken in another rim"),
        pytest.param("packet", "netaddr", id="package in the core"),
    ],
)
def test_wrong_import_is_found(room: str, imported: str) -> None:
    assert violation(room, imported) != ""


def test_relative_import_is_resolved() -> None:
    tree = ast.parse("from ..topology import model")

    found = list(imports(tree, PACKAGE / "packet" / "codec.py"))

    assert found == [(1, "midoryu.topology.model")]
