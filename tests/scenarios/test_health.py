# SPDX-License-Identifier: Apache-2.0
"""Health monitors: one host looks, all know; who looks is replaced when it dies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet.address import format_ip, format_mac
from midoryu.packet.codec import decode
from midoryu.packet.segment import read_segment
from midoryu.topology import model
from midoryu.topology.balancer import HealthMonitor, Probe
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, V4, Family
from tests.scenarios.test_balancer import Shop, member, shop

KINDS = pytest.mark.parametrize("kind", Probe)


class Ward(Shop):
    """A shop whose members answer probes, as long as they are well."""

    def __init__(
        self,
        kind: Probe,
        family: Family = V4,
        device: str = "tenant",
        **fields: Any,
    ) -> None:
        monitor = HealthMonitor("", "", kind, interval_s=1.0, timeout_s=0.4)
        self.well = {"web/vm2": True, "web/vm3": True}
        self.code = 200
        self.asked = 0
        b = shop(family, device, monitor=monitor, **fields)
        super().__init__(family, device, builder=b)

    def live(self, seconds: float) -> None:
        """Let time pass; members answer what reaches them."""
        for _ in range(int(seconds * 20)):
            todo = self.fabric.advance(0.05)
            for _ in range(6):
                answers = []
                for vport, frame in list(todo):
                    answer = self.reply(vport, frame)
                    if answer is not None:
                        answers.append((vport, answer))
                todo = []
                for vport, answer in answers:
                    todo += self.fabric.send(vport, answer)
                if not todo:
                    break

    def reply(self, vport: str, frame: bytes) -> Any:
        packet = decode(frame)
        headers = packet.headers
        if vport not in self.well or packet.eth_type == 0x806:
            return None
        self.asked += 1
        ends: dict[str, Any] = {
            "src": format_ip(headers.ip_dst),
            "dst": format_ip(headers.ip_src),
            "eth_src": format_mac(headers.eth_dst),
            "eth_dst": format_mac(headers.eth_src),
        }
        if not self.well[vport]:
            if packet.ip_proto != 17:
                return None
            ends["kind"], ends["code"] = (1, 4) if self.family.is_v6 else (3, 3)
            return frames.icmp_error(frame[14:], **ends)
        if packet.ip_proto in (1, 58):
            make = frames.icmp6_echo if self.family.is_v6 else frames.icmp_echo
            return make(identifier=headers.icmp_id, reply=True, **ends)
        ends.update(sport=headers.l4_dst, dport=headers.l4_src)
        if packet.ip_proto == 17:
            return None
        segment = read_segment(packet)
        if segment.flags & 4:
            return None
        if segment.flags & 2:
            return frames.tcp(flags="SA", seq=7000, ack=segment.sequence + 1, **ends)
        if segment.payload.startswith(b"GET / HTTP/1.1\r\nHost: "):
            text = f"HTTP/1.1 {self.code} So\r\n\r\n".encode()
            ack = segment.sequence + len(segment.payload)
            return frames.tcp(flags="PA", seq=7001, ack=ack, payload=text, **ends)
        return None

    def status(self, vm: int) -> Any:
        """Return what is said of a member: True, False, or None for nothing."""
        key = f"member/shop/{member(self.family, vm)}"
        row = self.fabric._rows.get((model.MemberStatus, key))  # noqa: SLF001
        return None if row is None else row.up

    def probers(self) -> set[str]:
        """Name the hosts that look at a member."""
        found = set()
        for name, host in self.fabric.hosts.items():
            assert host.engine is not None
            if host.alive and host.engine._core.health.watches:  # noqa: SLF001
                found.add(name)
        return found


@FAMILIES
@KINDS
@pytest.mark.parametrize("device", ["tenant", "web"])
def test_a_sick_member_gets_nothing_until_it_is_well(
    kind: Probe, device: str, family: Family
) -> None:
    world = Ward(kind, family, device)
    world.live(2.0)
    assert len(world.probers()) == 1
    assert (world.status(2), world.status(3)) == (True, True)
    world.well["web/vm3"] = False
    world.live(4.5)
    assert (world.status(2), world.status(3)) == (True, False)
    assert {world.call("vm4", p)[0] for p in range(40000, 40010)} == {"web/vm2"}
    world.well["web/vm3"] = True
    world.live(4.0)
    assert world.status(3) is True
    got = {world.call("vm4", p)[0] for p in range(41000, 41012)}
    assert got == {"web/vm2", "web/vm3"}


def test_a_bad_status_code_is_a_failure() -> None:
    world = Ward(Probe.HTTP)
    world.live(2.0)
    world.code = 503
    world.live(4.5)
    assert (world.status(2), world.status(3)) == (False, False)


@KINDS
def test_another_host_looks_when_the_first_one_dies(kind: Probe) -> None:
    world = Ward(kind)
    world.live(2.0)
    (first,) = world.probers()
    world.fabric.stop(first)
    world.fabric.drop = lambda p: first in (p.source, p.destination)
    vm = 2 if first != "node2" else 3
    world.live(2.0)
    (second,) = world.probers()
    assert second != first
    asked = world.asked
    world.live(2.0)
    assert world.asked > asked
    world.well[f"web/vm{vm}"] = False
    world.live(4.5)
    assert world.status(vm) is False


@pytest.mark.parametrize("ends", [False, True])
def test_connections_of_a_sick_member_go_on_or_end(ends: bool) -> None:
    world = Ward(Probe.TCP, V4, "tenant", ends_down=ends)
    world.live(1.5)
    calls = {port: world.call("vm4", port) for port in range(40000, 40010)}
    world.well["web/vm3"] = False
    world.live(4.5)
    for port, (where, _) in calls.items():
        again, _ = world.call("vm4", port, flags="A", payload=b"x")
        assert again == ("web/vm2" if ends else where)


def test_the_answer_of_a_filtered_member_comes_through() -> None:
    accept = model.RuleAction.ACCEPT
    monitor = HealthMonitor("", "", Probe.TCP, interval_s=1.0, timeout_s=0.4)
    b = shop(V4, "tenant", monitor=monitor)
    live = model.Rule(accept, ct_states=model.CT_ESTABLISHED)
    only_live = b.chain("only-live", live, accept=False)
    for row in list(b.rows):
        if isinstance(row, model.Vport) and row.name in ("vm2", "vm3"):
            b.put(replace(row, ingress_chain=only_live, egress_chain=only_live))
    world = Ward.__new__(Ward)
    world.well, world.code, world.asked = {"web/vm2": True, "web/vm3": True}, 200, 0
    Shop.__init__(world, V4, "tenant", builder=b)
    world.live(2.0)
    assert (world.status(2), world.status(3)) == (True, True)
