# SPDX-License-Identifier: Apache-2.0
"""The topology changes under running traffic: flows that are installed follow it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab
from tests.functional.lab_tools import (
    LABS,
    LabMaker,
    counters,
    echo,
    opened,
    pings,
    wait,
)

SERVER = "198.51.100.10"
VM1, VM2, VM3 = "10.0.1.11", "10.0.2.12", "10.0.1.13"
Topology = dict[str, Any]


class Changer:
    """The lab and its topology as the file has it, for a test to change."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        text = (LABS / "changes.yaml").read_text()
        self.first: Topology = yaml.safe_load(text)["topology"]
        self.topology = copy.deepcopy(self.first)

    @property
    def router(self) -> Topology:
        found: Topology = self.topology["routers"]["router"]
        return found

    def apply(self) -> None:
        path = self.lab.store.directory / "changed.yaml"
        path.write_text(yaml.safe_dump(self.topology))
        before = self._versions()
        self.lab.ctl("apply", "-f", str(path))
        # The agents of a change that they all see; others cost the whole time.
        wait(lambda: all(n > b for n, b in zip(self._versions(), before)), 1.0)

    def _versions(self) -> list[int]:
        return [
            int(self.lab.agent_query(host, "stats")["topology_version"])
            for host in self.lab.hosts
        ]

    def rules(self, *rules: Topology, policy: str = "accept", **more: Any) -> None:
        chain = {"policy": policy, "rules": list(rules), **more}
        self.topology["chains"]["vm1"] = chain
        self.apply()


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "changes.yaml")


@pytest.fixture
def changer(lab: Lab) -> Iterator[Changer]:
    changer = Changer(lab)
    yield changer
    changer.topology = changer.first
    changer.apply()
    assert wait(lambda: pings(lab, "vm2", VM1, count=1))


def reaches(lab: Lab, source: str, ip: str) -> bool:
    return wait(lambda: pings(lab, source, ip, count=1), 5)


def connects(lab: Lab, source: str, ip: str) -> bool:
    return lab.exec(source, f"nc -z -w 1 {ip} 7007", check=False).returncode == 0


def is_cut(lab: Lab, source: str, ip: str) -> bool:
    return wait(lambda: not pings(lab, source, ip, count=1), 5)


def test_new_rule_cuts_running_traffic_and_its_removal_lets_it_pass(
    changer: Changer,
) -> None:
    lab = changer.lab
    assert pings(lab, "vm2", VM1) == 3

    changer.rules({"drop": True, "from": VM2})
    assert is_cut(lab, "vm2", VM1)
    assert pings(lab, "server", VM1) == 3

    changer.rules()
    assert reaches(lab, "vm2", VM1)


@pytest.mark.parametrize("keep", [True, False], ids=["keep_live", "by default not"])
def test_established_connection_outlives_rules_that_drop_new_ones_where_wanted(
    changer: Changer, keep: bool
) -> None:
    established = {"accept": True, "ct": ["established", "related"]}
    with opened(changer.lab, "vm2", "tcp", VM1) as session:
        assert session.exchange().ok
        changer.rules(established, policy="drop", keep_live=keep)
        assert wait(lambda: not connects(changer.lab, "vm2", VM1))

        assert session.exchange().ok is keep


def test_connection_dies_by_a_rule_that_names_it(changer: Changer) -> None:
    with opened(changer.lab, "vm2", "tcp", VM1) as session:
        assert session.exchange().ok
        changer.rules({"drop": True, "from": VM2})

        assert wait(lambda: not session.exchange(timeout_s=2.0).ok)


def test_group_decides_who_passes_as_it_changes(changer: Changer) -> None:
    friends = {"accept": True, "from_group": "friends"}
    changer.rules(friends, policy="drop")
    assert reaches(changer.lab, "vm2", VM1)
    assert is_cut(changer.lab, "vm3", VM1)

    changer.topology["groups"]["friends"] = [VM3, "192.0.2.0/24", SERVER]
    changer.apply()

    assert is_cut(changer.lab, "vm2", VM1)
    assert reaches(changer.lab, "vm3", VM1)


def test_two_hundred_rules_decide_by_their_order(changer: Changer) -> None:
    many: list[Topology] = [
        {"drop": True, "proto": "tcp", "to_port": 10_000 + n, "from": f"10.9.{n}.0/24"}
        for n in range(200)
    ]
    changer.rules(*many, {"accept": True, "from": VM2}, policy="drop")
    assert reaches(changer.lab, "vm2", VM1)
    assert is_cut(changer.lab, "vm3", VM1)

    changer.rules({"drop": True, "from": VM2}, *many, {"accept": True, "from": VM2})
    assert is_cut(changer.lab, "vm2", VM1)


def test_rejecting_rule_of_a_router_tells_the_sender(changer: Changer) -> None:
    changer.topology["chains"]["no"] = {
        "rules": [{"reject": True, "to": VM1, "proto": "tcp"}]
    }
    changer.router["ingress"] = "no"
    changer.apply()

    assert wait(lambda: "refused" in echo(changer.lab, "vm2", "tcp", VM1))
    assert pings(changer.lab, "vm2", VM1) == 3


def test_changed_route_moves_running_traffic_to_the_other_uplink(
    changer: Changer,
) -> None:
    lab = changer.lab
    with opened(lab, "vm1", "tcp", SERVER) as session:
        assert session.exchange().ok
        changer.router["routes"] = [{"to": "198.51.100.0/24", "via": "192.0.2.5"}]
        changer.apply()
        assert reaches(lab, "vm1", SERVER)
        with lab.capture("server", "b", "tcp") as capture:
            assert session.exchange().ok

    assert capture.frames() != []


def test_masquerade_added_later_translates_new_connections_only(
    changer: Changer,
) -> None:
    lab = changer.lab
    with opened(lab, "vm1", "tcp", SERVER) as session:
        assert session.exchange().ok
        changer.router["masquerade"] = [{"from": "10.0.1.0/24", "to": "203.0.113.10"}]
        changer.apply()
        with lab.capture("server", "a", "src 203.0.113.10") as hidden:
            assert echo(lab, "vm1", "tcp", SERVER) == "ok"
        assert session.exchange().ok

    assert hidden.frames() != []


def test_port_that_is_removed_is_cut_and_added_again_works(changer: Changer) -> None:
    assert reaches(changer.lab, "vm1", VM3)
    port = changer.topology["networks"]["red"]["ports"].pop("vm3")
    changer.apply()
    assert is_cut(changer.lab, "vm1", VM3)

    changer.topology["networks"]["red"]["ports"]["vm3"] = port
    changer.apply()
    assert reaches(changer.lab, "vm1", VM3)


def test_disabled_port_network_or_router_stops_traffic(changer: Changer) -> None:
    networks = changer.topology["networks"]
    for device in (networks["blue"]["ports"]["vm2"], networks["blue"], changer.router):
        assert reaches(changer.lab, "vm2", VM1)
        device["up"] = False
        changer.apply()
        assert is_cut(changer.lab, "vm2", VM1)
        device["up"] = True
        changer.apply()


def test_deleted_network_takes_its_traffic_along(changer: Changer) -> None:
    lab = changer.lab
    assert reaches(lab, "vm2", VM1)
    blue = changer.topology["networks"].pop("blue")
    port = changer.router["ports"].pop("blue")
    changer.apply()
    assert is_cut(lab, "vm2", VM1)
    assert pings(lab, "vm3", VM1) == 3

    changer.topology["networks"]["blue"] = blue
    changer.router["ports"]["blue"] = port
    changer.apply()
    assert reaches(lab, "vm2", VM1)


def test_unplugged_interface_is_reported_and_comes_back(changer: Changer) -> None:
    lab = changer.lab
    host = lab.host("n2")
    device = next(p.device for p in lab.spec.plugs("n2") if p.vport == "red/vm3")
    host.ovs_vsctl("del-port", device)
    assert wait(lambda: "red/vm3" not in (lab.status()["hosts"]["n2"]["vports"]))

    host.ovs_vsctl(
        *("add-port", "br-int", device, "--", "set", "interface", device),
        "external_ids:iface-id=red/vm3",
    )
    assert reaches(lab, "vm1", VM3)


def test_wrong_topology_is_refused_by_line_and_changes_nothing(
    changer: Changer,
) -> None:
    changer.router["routes"].append({"to": "10.0.0.0/33", "via": "192.0.2.1"})
    changer.topology["networks"]["blue"]["ports"]["vm2"]["egress"] = "missing"
    before = changer.lab.ctl("export")

    with pytest.raises(LabError) as refused:
        changer.apply()

    assert "changed.yaml:" in str(refused.value)
    assert "10.0.0.0/33" in str(refused.value)
    assert "missing" in str(refused.value)
    assert changer.lab.ctl("export") == before


def test_change_elsewhere_leaves_flows_alone(changer: Changer) -> None:
    assert pings(changer.lab, "vm3", VM1) == 3
    before = counters(changer.lab, "n2")["flows invalidated"]

    changer.topology["networks"]["other"] = {"ports": {"x": {"ip": "10.8.0.1"}}}
    changer.apply()
    assert wait(lambda: "other" in changer.lab.ctl("show"))
    assert pings(changer.lab, "vm3", VM1) == 3

    assert counters(changer.lab, "n2")["flows invalidated"] == before
