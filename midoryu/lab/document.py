# SPDX-License-Identifier: Apache-2.0
"""A YAML document whose every entry knows its file, line and path.

`file` reads lab files through it, so that each mistake can be named where it stands.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from midoryu.compat import SLOTS
from midoryu.lab.error import LabError


@dataclass(frozen=True, **SLOTS)
class Entry:
    """One value in a YAML document, not yet trusted to have the right type."""

    source: str
    """File name for messages."""
    node: yaml.Node
    """The parsed node with its position."""
    path: str
    """Dotted path from the top of the document, empty at the top."""

    def error(self, reason: str) -> LabError:
        """Return an error that names file, line, path and reason."""
        line = self.node.start_mark.line + 1
        where = f"{self.path}: " if self.path else ""
        return LabError(f"{self.source}:{line}: {where}{reason}")

    def is_empty(self) -> bool:
        """Tell whether nothing was written (YAML null)."""
        return bool(self.node.tag == "tag:yaml.org,2002:null")

    def is_mapping(self) -> bool:
        """Tell whether this is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    def is_sequence(self) -> bool:
        """Tell whether this is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def entries(self) -> dict[str, Entry]:
        """Return the members of a mapping by name; nothing written is an empty one.

        Raises:
            LabError: this is no mapping, or a key is not text or stands twice.
        """
        if self.is_empty():
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"expected `name: value` lines, not {self._kind()}")
        found: dict[str, Entry] = {}
        for key_node, value_node in self.node.value:
            key = Entry(self.source, key_node, self.path).text()
            if key in found:
                raise Entry(self.source, key_node, self._below(key)).error(
                    "stands here twice"
                )
            found[key] = Entry(self.source, value_node, self._below(key))
        return found

    def fields(self, known: Iterable[str]) -> dict[str, Entry]:
        """Return the members of a mapping that may only have `known` keys.

        Raises:
            LabError: as `entries`, or a key is unknown.
        """
        names = list(known)
        found = self.entries()
        for key, entry in found.items():
            if key not in names:
                close = difflib.get_close_matches(key, names, n=1)
                hint = f"did you mean `{close[0]}`?" if close else _choices(names)
                raise entry.error(f"unknown key; {hint}")
        return found

    def sequence(self) -> list[Entry]:
        """Return the members of a list; nothing written is an empty list.

        Raises:
            LabError: this is no list.
        """
        if self.is_empty():
            return []
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error(f"expected a list, not {self._kind()}")
        return [
            Entry(self.source, node, f"{self.path}[{index}]")
            for index, node in enumerate(self.node.value)
        ]

    def one_or_more(self) -> list[Entry]:
        """Return the members of a list, or the value itself as the only one."""
        return self.sequence() if self.is_sequence() or self.is_empty() else [self]

    def text(self) -> str:
        """Return a scalar as it was written.

        Raises:
            LabError: this is no scalar, or an empty one.
        """
        if not isinstance(self.node, yaml.ScalarNode) or self.is_empty():
            raise self.error(f"expected text, not {self._kind()}")
        if self.node.value == "":
            raise self.error("must not be empty")
        return str(self.node.value)

    def flag(self) -> bool:
        """Return a boolean.

        Raises:
            LabError: it is not true or false.
        """
        value = self.plain()
        if not isinstance(value, bool):
            raise self.error(f"expected true or false, not {self._kind()}")
        return value

    def integer(self, low: int, high: int) -> int:
        """Return a whole number within `low`..`high`.

        Raises:
            LabError: it is none, or out of range.
        """
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"expected a whole number, not {self._kind()}")
        if not low <= value <= high:
            raise self.error(f"{value} is not within {low}..{high}")
        return value

    def plain(self) -> Any:
        """Return the value as plain Python objects.

        Raises:
            LabError: a value is not what its look says (a date such as 2026-99-99).
        """
        constructor = yaml.constructor.SafeConstructor()
        try:
            return constructor.construct_document(self.node)
        except (yaml.YAMLError, ValueError, TypeError) as problem:
            raise self.error(f"not a plain value: {problem}") from problem

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _kind(self) -> str:
        if self.is_empty():
            return "nothing"
        if isinstance(self.node, yaml.ScalarNode):
            return f"`{self.node.value}`"
        return "a list" if self.is_sequence() else "a mapping"


def parse(text: str, source: str) -> Entry:
    """Return the top entry of a YAML document.

    Raises:
        LabError: the text is not YAML, or there is no document in it.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 1
        raise LabError(f"{source}:{line}: not YAML: {problem.problem}") from problem
    except (yaml.YAMLError, RecursionError) as problem:
        raise LabError(f"{source}:1: not YAML: {_first_line(problem)}") from problem
    if node is None:
        raise LabError(f"{source}:1: the file is empty")
    return Entry(source, node, "")


def _choices(names: list[str]) -> str:
    return "possible here: " + ", ".join(f"`{name}`" for name in names)


def _first_line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
