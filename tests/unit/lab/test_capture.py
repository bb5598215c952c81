# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from pathlib import Path

import pytest

from midoryu.lab.capture import Capture
from midoryu.lab.error import LabError


def capture_file(path: Path, data: bytes) -> Capture:
    path.write_bytes(data)
    return Capture("nowhere", "eth0", path=path)


def header(order: str, magic: int) -> bytes:
    return struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 65535, 1)


def record(order: str, part: int, frame: bytes) -> bytes:
    return struct.pack(order + "IIII", 5, part, len(frame), len(frame)) + frame


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "part"), [(0xA1B2C3D4, 250_000), (0xA1B23C4D, 250_000_000)]
)
def test_frames_are_read_with_their_time(
    tmp_path: Path, order: str, magic: int, part: int
) -> None:
    data = header(order, magic) + record(order, part, b"frame")

    (frame,) = capture_file(tmp_path / "x.pcap", data).frames()

    assert frame.data == b"frame"
    assert frame.time == pytest.approx(5.25)


def test_unfinished_last_packet_is_left_out(tmp_path: Path) -> None:
    whole = header("<", 0xA1B2C3D4) + record("<", 0, b"one") + record("<", 0, b"two")

    frames = capture_file(tmp_path / "x.pcap", whole[:-1]).frames()

    assert [frame.data for frame in frames] == [b"one"]


def test_empty_file_has_no_frames(tmp_path: Path) -> None:
    assert capture_file(tmp_path / "x.pcap", b"").frames() == []


def test_other_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not a capture file"):
        capture_file(tmp_path / "x.pcap", b"x" * 40).frames()
