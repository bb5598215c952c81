# SPDX-License-Identifier: Apache-2.0
"""The texts behind a lab: the lab file's and its topology's.

`file` reads them. An inline topology is cut out so that its lines keep their numbers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import yaml

from midoryu.lab.error import LabError
from midoryu.lab.scalar import refusal
from midoryu.nsdb.document import Entry


def text_of(path: Path) -> str:
    """Return the text of a file.

    Raises:
        LabError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise LabError(f"{path}: cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise LabError(f"{path}: not UTF-8 text: {problem}") from problem


def topology_of(top: dict[str, Entry], text: str, directory: Path) -> tuple[str, str]:
    """Return the text of the topology and the file that it stands in.

    `text` is the lab file's, and `directory` the one that it stands in.

    Raises:
        LabError: there are two, or the file cannot be read.
    """
    if "topology" in top and "topology_file" in top:
        raise refusal(top["topology_file"], "`topology` is given as well; choose one")
    if "topology_file" in top:
        path = directory / top["topology_file"].text()
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, ValueError) as problem:
            reason = f"cannot be read: {problem}"
            raise refusal(top["topology_file"], reason) from problem
    if "topology" not in top or top["topology"].is_null:
        return "", ""
    return _cut(top["topology"], text), top["topology"].document.file


def _cut(entry: Entry, text: str) -> str:
    """Cut an inline topology out, each line keeping its line number."""
    start, end = entry.node.start_mark, entry.node.end_mark
    lines = text[start.index : end.index].split("\n")
    indent = 0 if lines[0].startswith(("{", "[")) else start.column
    body = [lines[0]] + [line[indent:] for line in lines[1:]]
    piece = "\n" * start.line + "\n".join(body) + "\n"
    try:
        whole = yaml.constructor.SafeConstructor().construct_document(entry.node)
    except (yaml.YAMLError, ValueError, TypeError) as problem:
        raise refusal(entry, str(problem)) from problem
    with contextlib.suppress(yaml.YAMLError):
        if yaml.safe_load(piece) == whole:
            return piece
    # It has an alias to an anchor elsewhere in the file, for example.
    return yaml.safe_dump(whole, sort_keys=False)
