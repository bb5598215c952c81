# SPDX-License-Identifier: Apache-2.0
"""`README.md` says what the code does: tables, words, commands, paths, examples."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from midoryu.cli import ctl
from midoryu.cmd import nsdb
from midoryu.engine import questions
from midoryu.engine.config import EngineConfig
from midoryu.lab import cli as lab_cli
from midoryu.lab import demo
from midoryu.lab import file as lab_file
from midoryu.nsdb import file_chain, file_l2, file_router, file_service, topology_file
from midoryu.openflow import pipeline
from midoryu.replication import outbox
from midoryu.state.connection import Phase
from tests.unit.test_layers import LAYER_BY_ROOM

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARTS = ("unit", "scenarios", "fuzz", "functional", "neutron", "all")
# Keys that stand in the table of keys and in no example.
TOLD_ONLY = {"to_group"}
# What the commands of other projects are called in the README.
FOREIGN = {
    "apt-get", "curl", "export", "openssl", "ovs-appctl", "ovs-ofctl", "ovs-vsctl",
    "pip", "python3", "ryu-manager", "systemctl", "cp", "umask",
    "openstack", "ping", "stack.sh", "midoryu-neutron-sync", "midoryu-status",
}  # fmt: skip


def section(title: str) -> str:
    """Return the text under a heading, up to the next one of its level."""
    found = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", README, re.DOTALL | re.M
    )
    assert found, f"README.md has no section {title!r}"
    return found[2]


def rows(text: str, head: str) -> list[list[str]]:
    """Return the rows of the table whose first heading cell is `head`."""
    found = re.search(
        rf"^\| {re.escape(head)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    assert found, f"README.md has no table {head!r}"
    lines = found[1].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def blocks(kind: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for language, text in fenced if language == kind]


def words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def constants(prefix: str) -> dict[str, int]:
    return {
        name: value for name, value in vars(pipeline).items() if name.startswith(prefix)
    }


def commands() -> Iterator[str]:
    for block in blocks("sh"):
        for line in block.splitlines():
            command = re.sub(r"\s+#.*", "", line).strip()
            yield from filter(None, map(str.strip, command.strip("()").split(";")))


def test_pipeline_tables_are_those_of_the_code() -> None:
    table = rows(section("The pipeline"), "table")
    assert {int(row[0]): row[1] for row in table} == pipeline.TABLE_NAMES


def test_priorities_are_those_of_the_code() -> None:
    table = rows(section("The pipeline"), "priority")
    assert {row[1]: int(row[0]) for row in table} == constants("PRIORITY_")


def test_cookie_kinds_are_those_of_the_code() -> None:
    table = rows(section("The pipeline"), "kind")
    kinds = constants("COOKIE_")
    mark = kinds.pop("COOKIE_MARK")
    del kinds["COOKIE_KIND_MASK"]
    assert {row[1]: int(row[0]) for row in table} == kinds
    assert f"mark `{mark:#x}`" in section("The pipeline")
    reactive = f"cookie={pipeline.cookie(3):#x}/{pipeline.COOKIE_KIND_MASK:#x}"
    assert reactive in section("The pipeline")


def test_registers_and_tunnel_keys_are_those_of_the_code() -> None:
    table = rows(section("The pipeline"), "register")
    assert {row[1]: int(row[0]) for row in table} == constants("REG_")
    keys = [row[0] for row in rows(section("The pipeline"), "tunnel key")]
    assert keys[1:] == [f"`{pipeline.FLOW_STATE_KEY:#x}`"]


def test_the_pipeline_is_drawn_as_in_the_code() -> None:
    drawn = [line.strip() for line in blocks("")[1].splitlines()]
    told = (pipeline.__doc__ or "").replace("ofport", "port")
    assert drawn == [line.strip() for line in told.splitlines() if "──►" in line]


def test_rooms_are_those_of_the_code() -> None:
    told = {}
    for row in rows(section("The rooms"), "layer"):
        told[row[1].strip("`")] = int(row[0])
    folders = {path.parent.name for path in ROOT.glob("midoryu/*/__init__.py")}
    assert told == {room: LAYER_BY_ROOM[room] for room in folders}


def test_topology_examples_are_good_files() -> None:
    for block in blocks("yaml"):
        if not block.startswith("# lab"):
            assert topology_file.parse(block, "README.md")


def test_lab_examples_are_good_files() -> None:
    found = [block for block in blocks("yaml") if block.startswith("# lab")]
    assert found
    for block in found:
        lab_file.read(block, "README.md", ROOT)


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ("top", topology_file.SECTIONS),
        ("network", topology_file.NETWORK_FIELDS),
        ("router", topology_file.ROUTER_FIELDS),
        ("port", topology_file.PORT_FIELDS),
        ("subnet", file_service.SUBNET_FIELDS),
        ("dhcp", file_service.DHCP_FIELDS),
        ("ra", ("mode", "preference", *file_service.RA_FIELDS)),
        ("qos", file_l2.QOS_FIELDS),
        ("mirrors", file_l2.MIRROR_FIELDS),
        ("route", file_router.ROUTE_FIELDS),
        ("masquerade", file_router.MASQUERADE_FIELDS),
        ("rule", file_chain.RULE_FIELDS),
    ],
)
def test_every_key_of_the_topology_file_is_told(
    row: str, fields: tuple[str, ...]
) -> None:
    table = {
        cells[0]: cells[1] for cells in rows(section("The topology file"), "where")
    }
    example = "".join(b for b in blocks("yaml") if not b.startswith("# lab"))
    assert sorted(set(words(table[row]))) == sorted(fields)
    shown = {f.removeprefix("not_") for f in fields} - TOLD_ONLY
    assert [field for field in sorted(shown) if f"{field}:" not in example] == []


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_exists(command: str) -> None:
    argv = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if not argv:
        return
    program, arguments = argv[0].rpartition("/")[2], argv[1:]
    if argv[0].startswith("tools/"):
        assert (ROOT / argv[0]).stat().st_mode & 0o111, f"{argv[0]} is no program"
    if argv[0].startswith("tools/test"):
        assert not arguments or arguments[0] in PARTS
    elif argv[0] == "tools/lab":
        parses(lab_cli._parser(), arguments)
        if arguments[0] == "up":
            assert (ROOT / arguments[1]).exists()
    elif program == "midoryu-ctl":
        parses(ctl.make_parser(), arguments)
    elif program == "midoryu-nsdb":
        parses(nsdb._parser(), arguments)
    elif not argv[0].startswith("tools/"):
        assert program in FOREIGN


def parses(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    try:
        parser.parse_args(arguments)
    except SystemExit:
        pytest.fail(f"refused: {parser.prog} {shlex.join(arguments)}")


def test_commands_in_running_text_exist() -> None:
    for command in words(re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.M)):
        if command.startswith(("midoryu-ctl ", "midoryu-nsdb ")):
            name = command.split()[0]
            parser = ctl.make_parser() if name == "midoryu-ctl" else nsdb._parser()
            known = parser.format_help()
            first = next(w for w in shlex.split(command)[1:] if not w.startswith("-"))
            assert first in known or first.startswith("tcp:"), command


def test_every_path_exists() -> None:
    text = README
    paths = set(
        re.findall(
            r"(?<![\w./])((?:midoryu|tests|tools|etc|devstack|\.ci)/[\w./-]*\w)", text
        )
    )
    assert len(paths) > 20
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert missing == []


def test_every_link_inside_the_project_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_times_of_flow_state_are_those_of_the_code() -> None:
    text = " ".join(section("Flow state").split())
    config = EngineConfig(host="", epoch=0, seed=0)
    life = dict(zip(Phase, config.lifetimes_s))
    assert (
        f"TCP established {life[Phase.TCP_ESTABLISHED]} s, TCP opening or closing "
        f"{life[Phase.TCP_TRANSITORY]} s, UDP {life[Phase.UDP]} s "
        f"({life[Phase.UDP_UNREPLIED]} s without a reply), ICMP {life[Phase.ICMP]} s, "
        f"others {life[Phase.OTHER]} s"
    ) in text
    assert f"at most {questions.STATE_WAIT_S * 1000:g} ms" in text
    assert f"`beat_interval_ms` {config.beat_interval_s * 1000:g}" in text
    assert f"`beat_multiplier` {config.beat_multiplier}" in text
    assert outbox.HEARTBEATS_S == (0.02, 0.1, 0.5, 1.0, 2.0)
    assert "20, 100, 500 ms, 1 and 2 s" in text


def test_every_package_that_is_installed_is_told() -> None:
    install = (ROOT / "tools/install").read_text(encoding="utf-8")
    needs = re.search(r"^needs=\((.*?)^\)", install, re.DOTALL | re.MULTILINE)
    assert needs
    packages = {need.rpartition(":")[2] for need in needs[1].split()}
    told = next(row[1] for row in rows_of_first_table() if row[0] == "installs")
    assert {name for name in packages if name not in told} == set()


def rows_of_first_table() -> list[list[str]]:
    lines = re.findall(r"^\| .*", section("Try it: two commands"), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_what_keep_suggests_exists() -> None:
    for line in demo.TRY_NEXT.splitlines():
        command = re.sub(r"\s+#.*", "", line).strip()
        for part in command.split(";"):
            if part.strip().startswith("tools/lab "):
                parses(lab_cli._parser(), shlex.split(part)[1:])


def test_the_demo_is_told_as_it_is() -> None:
    (output,) = blocks("text")
    source = Path(demo.__file__).read_text(encoding="utf-8")
    steps = re.findall(r'story\.step\("([^"]+)"\)', source)
    told = re.findall(r"^\[\d/\d\] (.*)$", output, re.MULTILINE)
    assert sorted(steps) == sorted(told)
    claims = re.findall(r'story\.check\(\s*"([^"]+)"', source)
    only_failing = {"outside it was seen", "the lab works"}
    assert [c for c in claims if c not in output and c not in only_failing] == []
