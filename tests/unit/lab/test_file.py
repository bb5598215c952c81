# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from midoryu.lab.error import LabError
from midoryu.lab.file import from_mapping, load, read
from midoryu.lab.spec import HostEnd, LabSpec, MachineEnd

LABS = Path(__file__).parents[3] / "tools" / "labs"

GOOD = """\
hosts: [node1, node2]
vms:
  vm1: {vport: web/vm1}
outside:
  upstream:
    forward: true
    interfaces: {gw: 192.0.2.1/30}
links:
  - [upstream/gw, edge/uplink]
topology:
  networks:
    web:
      ports:
        vm1: {host: node1, mac: "02:00:00:00:01:01", ip: 10.0.1.11}
  routers:
    edge:
      ports:
        web: {network: web, ip: 10.0.1.1/25}
        uplink: {host: node2, ip: 192.0.2.2/30}
"""


def lab(text: str) -> LabSpec:
    return read(text, "lab.yaml", Path())[0]


def test_vm_gets_host_mac_address_and_gateway_from_the_topology() -> None:
    spec = lab(GOOD)

    vm = spec.machines[0]
    assert spec.plugs("node1")[0].iface_id == "web/vm1"
    assert vm.interfaces[0].mac == "02:00:00:00:01:01"
    assert vm.interfaces[0].ips == ("10.0.1.11/25",)
    assert [(r.to, r.via) for r in vm.routes] == [("default", "10.0.1.1")]


def test_uplink_is_plugged_into_the_host_of_its_vport() -> None:
    link = lab(GOOD).links[1]

    assert link.near == MachineEnd("upstream", "gw")
    assert isinstance(link.far, HostEnd)
    assert (link.far.host, link.far.iface_id) == ("node2", "edge/uplink")
    assert link.far.uplink


def test_hosts_get_underlay_addresses_in_order() -> None:
    assert [h.ip for h in lab(GOOD).hosts] == ["172.31.0.1", "172.31.0.2"]


def test_inline_topology_keeps_its_line_numbers() -> None:
    ours = GOOD.splitlines()
    cut = lab(GOOD).topology_text.splitlines()

    assert cut[11].strip() == ours[11].strip() == "web:"
    assert cut[11] == "  web:"


def test_flow_style_topology_is_cut_out_whole() -> None:
    text = (
        "hosts: [a]\ntopology: {networks: {n: {ports: {p: {host: a,\n  up: true}}}}}\n"
    )

    assert lab(text).topology_text.strip().startswith("{networks:")


def test_topology_with_an_anchor_elsewhere_stays_whole() -> None:
    text = """\
hosts: [a]
agent: {agent: &x {host: a}}
topology:
  networks: {n: {ports: {p: *x}}}
"""

    assert "host: a" in lab(text).topology_text


def test_mapping_is_read_like_a_file() -> None:
    data: dict[str, Any] = {"name": "few", "hosts": ["a"]}

    spec, name = from_mapping(data)

    assert name == "few"
    assert [h.name for h in spec.hosts] == ["a"]


@pytest.mark.parametrize("path", sorted(LABS.glob("*.yaml")), ids=lambda p: p.name)
def test_example_lab_is_good(path: Path) -> None:
    assert load(path)[0].hosts


def change(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


WRONG = {
    "empty file": ("", "lab.yaml:1: the file is empty"),
    "no YAML": ("hosts: [a\n", "lab.yaml:2: top level: not YAML: "),
    "tab": ("hosts:\n\t- a\n", "lab.yaml:2: top level: not YAML: "),
    "a list": ("- hosts\n", "lab.yaml:1: top level: must be a mapping, is a list"),
    "no hosts": ("name: x\n", "lab.yaml:1: top level: `hosts` is missing"),
    "hosts empty": ("hosts: []\n", "lab.yaml:1: hosts: a lab has at least one host"),
    "unknown key": (
        change("vms:", "vm:"),
        "lab.yaml:3: vm: unknown key; did you mean 'vms'?",
    ),
    "key twice": (
        GOOD + "hosts: [b]\n",
        "lab.yaml:20: hosts: is there twice",
    ),
    "name taken": (change("  vm1: {v", "  node1: {v"), "name `node1` is taken"),
    "name of the lab's own": (
        change("[node1,", "[nsdb, node1,"),
        "lab.yaml:1: hosts[0]: the name `nsdb` belongs to the lab itself",
    ),
    "name with a slash": (change("  vm1: {v", "  a/b: {v"), "a name is a letter"),
    "no such vport": (
        change("web/vm1}", "web/vm7}"),
        "lab.yaml:3: vms.vm1.vport: the topology has no vport `web/vm7`",
    ),
    "host not of the lab": (
        change("host: node1,", "host: node9,"),
        "lab.yaml:3: vms.vm1.vport: `node9` is no host of this lab",
    ),
    "no host at the vport": (
        change("host: node1, ", ""),
        "vport `web/vm1` has no `host:` in the topology",
    ),
    "interface without link": (
        change("{gw: 192.0.2.1/30}", "{gw: 192.0.2.1/30, b: 10.9.9.9/24}"),
        "lab.yaml:6: outside.upstream: no link leads to interface `b`",
    ),
    "address without length": (
        change("192.0.2.1/30", "192.0.2.1"),
        "lab.yaml:7: outside.upstream.interfaces.gw: needs a prefix length",
    ),
    "no address": (change("192.0.2.1/30", "house/30"), "'house/30' does not appear"),
    "link of one end": (
        change("[upstream/gw, edge/uplink]", "[upstream/gw]"),
        "lab.yaml:9: links[0]: a link has two ends",
    ),
    "link to nothing": (
        change("[upstream/gw,", "[upstream/zz,"),
        "lab.yaml:9: links[0][0]: neither an outside interface nor a vport",
    ),
    "vport plugged twice": (
        change("edge/uplink]", "web/vm1]"),
        "`web/vm1` has something plugged in already",
    ),
    "link between vports": (
        change("[upstream/gw,", "[web/vm1,").replace("  vm1: {vport: web/vm1}", "  {}"),
        "one end must be at an outside machine",
    ),
    "MTU too small": (
        GOOD + "underlay: {mtu: 60}\n",
        "lab.yaml:20: underlay.mtu: '60' is not a number from 576 to 9600",
    ),
    "subnet with host bits": (GOOD + "underlay: {subnet: 10.0.0.1/24}\n", "host bits"),
    "two topologies": (GOOD + "topology_file: x\n", "`topology` is given as well"),
    "topology file missing": (
        "hosts: [a]\ntopology_file: /no/such\n",
        "lab.yaml:2: topology_file: cannot be read",
    ),
    "wrong topology": (
        change("network: web,", "network: wbe,"),
        "lab.yaml:18: routers.edge.ports.web.network: ",
    ),
    "unhashable key": (
        "? [a, b]\n: c\n",
        "lab.yaml:1: top level: a key must be plain text",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_file_is_told_with_file_line_path_and_reason(case: str) -> None:
    text, message = WRONG[case]

    with pytest.raises(LabError) as caught:
        lab(text)

    without_column = re.sub(r"(lab\.yaml:\d+):\d+:", r"\1:", str(caught.value))
    assert message in without_column
    assert without_column.startswith("lab.yaml:")


def test_missing_file_is_told() -> None:
    with pytest.raises(LabError, match=r"/no/such.yaml: cannot be read: No such file"):
        load("/no/such.yaml")
