# SPDX-License-Identifier: Apache-2.0
"""Where results go, and in which form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Union

import pytest

from midoryu.bench.cli import _write
from midoryu.bench.report import Figure

FIGURES = [Figure("micro", "decode", "us", "struct", [2.0], [1.0])]


@pytest.mark.parametrize(
    ("name", "form", "is_json"),
    [
        ("out.json", None, True),
        ("out.txt", None, False),
        ("out", "json", True),
        ("out.json", "table", False),
    ],
)
def test_a_files_name_says_its_form_unless_an_option_does(
    tmp_path: Path, name: str, form: Union[str, None], is_json: bool
) -> None:
    _write(FIGURES, form, tmp_path / name)

    text = (tmp_path / name).read_text()
    assert text.startswith("[" if is_json else "suite")


def test_a_person_sees_a_table_beside_the_json_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(FIGURES, None, tmp_path / "out.json")

    assert json.loads((tmp_path / "out.json").read_text())[0]["name"] == "decode"
    assert capsys.readouterr().out.startswith("suite")
