# SPDX-License-Identifier: Apache-2.0
"""A vport that floods with new flows is limited while others beside it are there."""

from __future__ import annotations

import random
from typing import Any

from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketsShed
from midoryu.engine.share_book import CALM_S
from midoryu.openflow.block_flows import METER_HANDED
from midoryu.openflow.flow import InstallFlow, RemoveFlow, RemoveMeter, SetMeter
from midoryu.openflow.pipeline import PRIORITY_FLOODED
from midoryu.openflow.service_flows import METER_FLOODED
from midoryu.packet.address import parse_ip
from midoryu.topology import model
from midoryu.topology.uplinks import Uplink
from tests.helpers import frames
from tests.helpers.bench import OFPORTS, OUTSIDE, Bench, installed, office

RATE, LIMIT = 4000, 1000


class Host(Bench):
    """An engine with two VMs whose chain tracks connections."""

    def __init__(self, **config: Any) -> None:
        b = office()
        live = model.Rule(
            model.RuleAction.ACCEPT, ct_states=model.CT_NEW | model.CT_ESTABLISHED
        )
        b.chain("out", live, accept=False)
        for number in (1, 2):
            b.vport(
                f"web/vm{number}",
                host="node1",
                mac=f"02:00:00:00:00:0{number}",
                ip=f"10.0.1.{number}",
                ingress_chain="out",
                up=True,
            )
        super().__init__(b, **config)
        self.dice = random.Random(1)

    def flood(self, seconds: float = 0.3, dst: str = "") -> list[Effects]:
        """Let vm1 open connections at random, vm2 one now and then."""
        pps = 2000
        done = []
        for number in range(int(seconds * pps)):
            self.now += 1 / pps
            to = dst or f"198.51.100.{self.dice.randrange(1, 255)}"
            done.append(self.send("web/vm1", self.syn(dst=to)))
            if number % 50 == 0:
                done.append(self.send("web/vm2", self.syn(2)))
        return done

    def syn(self, vm: int = 1, **fields: Any) -> bytes:
        port = self.dice.randrange(1024, 65536)
        return self.frame(vm, **{"sport": port, "flags": "S", **fields})


def meters(done: list[Effects]) -> list[SetMeter]:
    mods = [mod for effects in done for mod in effects.flow_mods]
    return [mod for mod in mods if isinstance(mod, SetMeter)]


def test_the_meter_of_a_flooding_port_is_lowered_and_raised_again() -> None:
    host = Host()
    assert meters(host.flood(0.15)) == [
        SetMeter(OFPORTS["web/vm1"], LIMIT, LIMIT // 10)
    ]
    assert host.counters["ports limited beside others"] == 1
    calm = [host.wait(0.2) for _ in range(int(CALM_S / 0.2) + 2)]
    assert meters(calm) == [SetMeter(OFPORTS["web/vm1"], RATE, 1000)]


def test_what_floods_one_address_gets_a_meter_of_its_own_and_the_rest_has_the_old() -> (
    None
):
    host = Host()
    done = host.flood(0.6, OUTSIDE)
    key, ofport = host.b.key("web/vm1"), OFPORTS["web/vm1"]
    own = SetMeter(METER_FLOODED | key, LIMIT, LIMIT // 10)
    lowered = SetMeter(ofport, LIMIT, LIMIT // 10)
    assert meters(done) == [lowered, SetMeter(ofport, RATE, 1000), own]
    flows = [m.flow for e in done for m in e.flow_mods if isinstance(m, InstallFlow)]
    (flow,) = [one for one in flows if one.priority == PRIORITY_FLOODED]
    assert flow.match.values == (ofport, 0x0800, parse_ip(OUTSIDE))
    # Others than the flooded one are served as ever.
    assert len(installed(host.send("web/vm1", host.syn(dst="198.51.100.77")))) == 1
    assert installed(host.send("web/vm1", host.syn())) == []

    calm = [host.wait(0.2) for _ in range(int(CALM_S / 0.2) + 2)]
    gone = [mod for effects in calm for mod in effects.flow_mods]
    assert RemoveFlow(flow) in gone
    assert RemoveMeter(own.meter) in gone


def test_a_host_that_cannot_keep_up_lowers_the_meter_further() -> None:
    host = Host()
    host.flood(0.15)
    done = []
    for _ in range(8):
        host.now += 0.1
        done.append(host.do(PacketsShed(OFPORTS["web/vm1"], 100)))
    assert SetMeter(OFPORTS["web/vm1"], LIMIT // 2, LIMIT // 20) in meters(done)
    host.do(PacketsShed(99, 1))  # nobody's


def test_what_gateways_hand_on_from_a_flooded_uplink_gets_a_lower_meter() -> None:
    host = Host()
    far = 99
    host.core.blocks.entries = {77: (Uplink(far, 1, (77,)),)}
    host.send("web/vm2", host.syn(2))
    for count in (1, 400):
        host.core.packet_ins[far] += count
        host.now += 0.1
        done = host.wait(0.0)
    assert SetMeter(METER_HANDED | 77, LIMIT, LIMIT // 10) in meters([done])
    calm = [host.wait(0.2) for _ in range(int(CALM_S / 0.2) + 2)]
    assert meters(calm) == [SetMeter(METER_HANDED | 77, RATE, 1000)]


def test_later_changes_of_the_topology_keep_the_lower_meter() -> None:
    host = Host()
    host.flood()
    more = host.change(
        model.VportStatus(host.b.key("web/vm3"), host.b.key("node2"), True)
    )
    assert meters([more]) == []


def test_a_flooding_port_has_packets_sent_without_flows_and_others_with() -> None:
    host = Host()
    host.flood()
    effects = host.send("web/vm1", host.syn())
    assert installed(effects) == []
    assert len(effects.packet_outs) == 1
    assert host.core.connections.unreplied_of(host.b.key("web/vm1")) > 500
    assert len(installed(host.send("web/vm2", host.syn(2)))) == 1


def test_another_syn_makes_no_flow_but_the_next_segment_does() -> None:
    host = Host()
    host.flood()
    host.send("web/vm1", host.syn(sport=50))
    assert installed(host.send("web/vm1", host.syn(sport=50))) == []
    assert len(installed(host.send("web/vm1", host.syn(sport=50, flags="A")))) == 1


def test_a_datagram_makes_a_flow_once_the_first_one_was_answered() -> None:
    host = Host()
    host.flood()

    def udp(vm: int, sport: int, dport: int) -> bytes:
        mac, to = f"02:00:00:00:00:0{vm}", 3 - vm
        return frames.udp(
            src=f"10.0.1.{vm}",
            dst=f"10.0.1.{to}",
            sport=sport,
            dport=dport,
            eth_src=mac,
            eth_dst=f"02:00:00:00:00:0{to}",
        )

    assert installed(host.send("web/vm1", udp(1, 50, 60))) == []
    assert installed(host.send("web/vm1", udp(1, 50, 60))) == []
    assert len(installed(host.send("web/vm2", udp(2, 60, 50)))) == 1
    assert len(installed(host.send("web/vm1", udp(1, 50, 60)))) == 1


def test_a_server_that_answers_a_flood_is_not_limited() -> None:
    host = Host(flood_rate_pps=200)
    for number in range(400):
        host.now += 0.001
        host.send("web/vm1", host.beside(sport=1024 + number, flags="S"))
        back = {"sport": 80, "dport": 1024 + number, "flags": "SA"}
        host.send("web/vm2", host.beside(2, to=1, **back))
    assert host.core.shares.limited <= {host.b.key("web/vm1")}


def test_without_a_limit_nothing_changes() -> None:
    host = Host(flood_rate_pps=0)
    assert meters(host.flood()) == []


def test_the_report_says_which_port_is_limited() -> None:
    host = Host()
    host.flood()
    rows: Any = host.engine.inspect("vports", {}, host.now)
    limited = {row["key"]: (row["limited"], row["limited_times"]) for row in rows}
    assert limited[host.b.key("web/vm1")] == (True, 1)
    assert limited[host.b.key("web/vm2")] == (False, 0)
