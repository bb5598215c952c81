# SPDX-License-Identifier: Apache-2.0
"""A YAML file whose every value knows where it stands.

`topology_file` reads the topology through it. Problems are collected, not raised, so
that one run tells all of them; a value that is wrong is reported once and reads as a
default.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar, Union

import yaml

from midoryu.errors import TopologyError

T = TypeVar("T")

_TRUE: Final = ("true", "yes", "on")
_FALSE: Final = ("false", "no", "off")
_MAX_PROBLEMS: Final = 50
# More than any file of ours nests; libyaml dies of some 50,000.
_DEEP: Final = 1000
_PLAIN_KEY: Final = re.compile(r"[\w./-]+\Z")
_KIND: Final = {
    yaml.ScalarNode: "a value",
    yaml.SequenceNode: "a list",
    yaml.MappingNode: "a mapping",
}


class Document:
    """One file and what is wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._problems: dict[tuple[int, int, str], None] = {}

    def report(self, entry: Entry, reason: str) -> None:
        """Note a problem at an entry."""
        mark = entry.node.start_mark
        where = f"{self.file}:{mark.line + 1}:{mark.column + 1}"
        text = f"{where}: {entry.path or 'top level'}: {reason}"
        self._problems.setdefault((mark.line, mark.column, text))

    @property
    def is_good(self) -> bool:
        """Whether nothing was reported so far."""
        return not self._problems

    def raise_problems(self) -> None:
        """End here if anything is wrong.

        Raises:
            TopologyError: one line for each problem, in the file's order.
        """
        if self._problems:
            lines = [text for _, _, text in sorted(self._problems)]
            more = len(lines) - _MAX_PROBLEMS
            if more > 0:
                lines[_MAX_PROBLEMS:] = [f"{self.file}: and {more} more problems"]
            raise TopologyError("\n".join(lines))


class Entry:
    """One value of the file, with its path."""

    def __init__(self, document: Document, node: yaml.Node, path: str) -> None:
        self.document = document
        self.node = node
        self.path = path

    def report(self, reason: str) -> None:
        """Note that this entry is wrong."""
        self.document.report(self, reason)

    @property
    def is_null(self) -> bool:
        """Whether nothing is written here."""
        return (
            isinstance(self.node, yaml.ScalarNode)
            and self.node.tag == "tag:yaml.org,2002:null"
        )

    @property
    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        """Whether this is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    def entries(self) -> dict[str, Entry]:
        """Read a mapping with any keys; nothing written counts as empty."""
        if self.is_null:
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            self._report_kind("a mapping")
            return {}
        found: dict[str, Entry] = {}
        for key, value in self.node.value:
            if not isinstance(key, yaml.ScalarNode):
                Entry(self.document, key, self.path).report("a key must be plain text")
                continue
            entry = Entry(self.document, value, self._child_path(key.value))
            if key.value in found:
                Entry(self.document, key, entry.path).report("is there twice")
            found.setdefault(key.value, entry)
        return found

    def fields(self, known: Iterable[str]) -> dict[str, Entry]:
        """Read a mapping with these keys only."""
        allowed = list(known)
        found = self.entries()
        for key in [key for key in found if key not in allowed]:
            entry = found.pop(key)
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {_list(allowed)}"
            entry.report(f"unknown key; {hint}")
        return found

    def items(self) -> Iterator[Entry]:
        """Read a list, or a single value as a list of one."""
        if not isinstance(self.node, yaml.SequenceNode):
            if not self.is_null:
                yield self
            return
        for index, node in enumerate(self.node.value):
            yield Entry(self.document, node, f"{self.path}[{index}]")

    def list_items(self) -> Iterator[Entry]:
        """Read a list; anything else is a problem."""
        if self.is_list or self.is_null:
            yield from self.items()
        else:
            self._report_kind("a list")

    def text(self) -> str:
        """Read a value as it is written."""
        if self.is_null or not isinstance(self.node, yaml.ScalarNode):
            self._report_kind("a value")
            return ""
        return str(self.node.value)

    def boolean(self, default: bool = False) -> bool:
        """Read `true` or `false`."""
        text = self.text()
        if text.lower() in _TRUE:
            return True
        if text.lower() not in _FALSE and text:
            self.report(f"{text!r} is neither true nor false")
            return default
        return False if text else default

    def integer(self, low: int, high: int) -> int:
        """Read a decimal number in a range."""
        text = self.text()
        if text.isdecimal() and low <= int(text[:20]) <= high:
            return int(text)
        if text:
            self.report(f"{text!r} is not a number from {low} to {high}")
        return low

    def choice(self, words: Iterable[str]) -> str:
        """Read one of some words."""
        known = list(words)
        text = self.text()
        if text and text not in known:
            near = difflib.get_close_matches(text, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.report(f"{text!r} is not one of {_list(known)}{hint}")
        return text if text in known else known[0]

    def parsed(self, parse: Callable[[str], T]) -> Union[T, None]:
        """Read text through a parser that raises `ValueError`; None after a problem."""
        text = self.text()
        if not text:
            return None
        try:
            return parse(text)
        except ValueError as problem:
            self.report(str(problem))
            return None

    def _child_path(self, key: str) -> str:
        shown = key if _PLAIN_KEY.match(key) else repr(key)
        return f"{self.path}.{shown}" if self.path else shown

    def _report_kind(self, wanted: str) -> None:
        found = "nothing" if self.is_null else _KIND.get(type(self.node), "something")
        self.report(f"must be {wanted}, is {found}")


def _compose(text: str) -> Union[yaml.Node, None]:
    """Read YAML by libyaml, which is six times as fast, where it is there.

    It does not survive deep nesting, and Python's reader says better what is wrong.
    """
    if yaml.__with_libyaml__ and _is_shallow(text):
        with contextlib.suppress(yaml.YAMLError):
            return yaml.compose(text, Loader=yaml.CSafeLoader)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _is_shallow(text: str) -> bool:
    """Tell whether nothing in a text can be nested very deeply."""
    depth = 0
    for line in text.splitlines():
        depth += line.count("[") + line.count("{")
        if depth + line.count("- ") + line.count("? ") > _DEEP:
            return False
        depth -= line.count("]") + line.count("}")
    return True


def load(text: str, file: str) -> Entry:
    """Read YAML; the entry is the whole file.

    Raises:
        TopologyError: the text is not YAML, or holds nothing or several documents.
    """
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        reason = problem.problem or problem.context
        raise TopologyError(f"{where}: top level: not YAML: {reason}") from problem
    except yaml.YAMLError as problem:
        reason = " ".join(str(problem).split())
        raise TopologyError(f"{file}:1:1: top level: not YAML: {reason}") from problem
    except RecursionError:
        raise TopologyError(f"{file}:1:1: top level: nested too deeply") from None
    if node is None:
        raise TopologyError(
            f"{file}:1:1: top level: the file is empty; "
            "write 'networks: {}' to delete everything"
        )
    return Entry(Document(file), node, "")


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
