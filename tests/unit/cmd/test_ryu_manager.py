# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
APPLICATION = """
import logging
import os

from midoryu.agent.framework import RyuApp

logging.getLogger("cloud").warning("rain")
logging.shutdown()
os._exit(0)
"""


def run_application(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "rainy.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "midoryu.cmd.ryu_manager", *options, "rainy"]
    return subprocess.run(
        command,
        cwd=directory,
        env={"PYTHONPATH": f"{ROOT}:{directory}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_log_lines_have_time_level_and_logger(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    result = run_application(tmp_path, f"--log-file={log}")
    (line,) = [line for line in log.read_text().splitlines() if "rain" in line[30:]][
        -1:
    ]
    assert line.endswith(" WARNING cloud: rain")
    assert line[:2] == "20"
    assert line in result.stderr


def test_start_prints_no_warning_of_libraries(tmp_path: Path) -> None:
    result = run_application(tmp_path)
    assert "eprecat" not in result.stderr
    assert "monkey" not in result.stderr
