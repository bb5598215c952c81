# SPDX-License-Identifier: Apache-2.0
"""What Wireshark makes of our state packets, inside their GRE tunnel."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import GRE, Ether
from scapy.utils import wrpcap

from midoryu.packet.address import parse_ip
from midoryu.replication.entry import Notice
from midoryu.replication.session import Datagram, Replicator
from midoryu.state.connection import (
    Connection,
    Phase,
    Translation,
    TranslationKind,
)

SCRIPT = Path(__file__).parents[2] / "tools" / "dissectors" / "midoryu.lua"
NAT = parse_ip("203.0.113.10")
CONNECTION = Connection(
    id=0x1122334455667788,
    ip_proto=6,
    original=(parse_ip("10.0.1.12"), parse_ip("198.51.100.10"), 40000, 80),
    ingress_device=1,
    ingress_vport=2,
    egress_device=3,
    egress_vport=4,
    translations=(Translation(5, TranslationKind.SOURCE, NAT, 6400),),
    owner=1,
    phase=Phase.TCP_ESTABLISHED,
)


def touched(replicator: Replicator) -> list[Datagram]:
    """Touch a record that was changed three times."""
    replicator.touch((dataclasses.replace(CONNECTION, version=3),), (2,), 0.7)
    return replicator.tick(0.8)


def frames() -> list[bytes]:
    replicator = Replicator(host=1, epoch=7, keys=(b"key",), mtu_bytes=1500, now=0.0)
    replicator.set_peers([2], 0.0)
    key = (3, 6, *CONNECTION.original)
    return [
        datagram.frame
        for datagram in (
            *replicator.tick(0.1),
            *replicator.push((CONNECTION,), (2,), 0.2),
            *replicator.query((key,), (2,), 0.3)[1],
            *replicator.say_unknown(2, 9, 0.4),
            *replicator.notify([Notice(4, False)], (2,), 0.5),
            *replicator.want([CONNECTION.id], 2, 0.6),
            *touched(replicator),
        )
    ]


@pytest.fixture(scope="module")
def dissected(tmp_path_factory: pytest.TempPathFactory) -> str:
    assert shutil.which("tshark"), "tshark is missing: run tools/install"
    folder = tmp_path_factory.mktemp("dissector")
    outer = Ether() / IP(src="172.31.0.1", dst="172.31.0.2", proto=47)
    outer /= GRE(key_present=1, key=0xFFFFFF, proto=0x6558)
    wrpcap(str(folder / "state.pcap"), [outer / Ether(frame) for frame in frames()])
    shutil.copy(SCRIPT, folder)
    command = ["tshark", "-X", f"lua_script:{folder / SCRIPT.name}", "-V"]
    command += ["-r", str(folder / "state.pcap"), "-Y", "midoryu"]
    if os.geteuid() == 0:
        # Wireshark runs no scripts for root.
        for path in (folder, *folder.parents):
            if path != Path("/tmp") and str(path).startswith("/tmp"):
                path.chmod(0o755)
        command = ["setpriv", "--reuid=65534", "--clear-groups", *command]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "Connection: 0x1122334455667788",
        "Source: 10.0.1.12",
        "To address: 203.0.113.10",
        "To port: 6400",
        "Phase: TCP established (1)",
        "Entry: HELLO (4)",
        "Entry: QUERY (9)",
        "Looked for at device: 3",
        "Entry: UNKNOWN (10)",
        "Query: 9",
        "Entry: NOTICE (11)",
        "Is alive: False",
        "Entry: TOUCH (2)",
        "Entry: VERSION (13)",
        "Version of the record: 3",
        "Entry: WANT (14)",
    ],
)
def test_the_dissector_shows(dissected: str, line: str) -> None:
    assert line in dissected


def test_the_dissector_leaves_nothing_malformed(dissected: str) -> None:
    assert "Malformed" not in dissected
    assert "Lua Error" not in dissected
    assert dissected.count("midoryu flow state") >= len(frames())
