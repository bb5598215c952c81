# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from midoryu.errors import TopologyError
from midoryu.nsdb.document import load


def test_many_problems_are_cut_short() -> None:
    entry = load("\n".join(f"k{n}: 1" for n in range(200)), "f.yaml")

    entry.fields(("known",))

    with pytest.raises(TopologyError) as caught:
        entry.document.raise_problems()
    lines = str(caught.value).splitlines()
    assert lines[-1] == "f.yaml: and 150 more problems"


def test_a_wrong_value_reads_as_a_default() -> None:
    entry = load("{number: many, word: x}", "f.yaml").entries()

    assert entry["number"].integer(3, 9) == 3
    assert entry["word"].choice(("a", "b")) == "a"
    assert not entry["word"].document.is_good


def test_deep_nesting_of_any_kind_is_refused() -> None:
    for text in ("[" * 100_000, "[\n" * 100_000, "- " * 50_000, "{a: " * 100_000):
        with pytest.raises(TopologyError, match="nested too deeply|not YAML"):
            load(text, "f.yaml")
