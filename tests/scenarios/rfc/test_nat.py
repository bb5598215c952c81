# SPDX-License-Identifier: Apache-2.0
"""RFC 4787 (UDP), 5382 (TCP), 5508 (ICMP) and 7857, requirement by requirement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import Consumed, Drop, Forward, Reason
from midoryu.state.connection import Direction, Phase
from midoryu.state.lifetime import DEFAULT_LIFETIMES_S, next_phase
from midoryu.topology.model import Filtering
from tests.helpers import frames
from tests.helpers.bench import NAT, Bench, office
from tests.helpers.frames import ICMP, IP, TCP, UDP, Ether, IPOption, Raw
from tests.helpers.worlds import (
    FAMILIES,
    GATEWAY_MAC,
    NOW,
    V4,
    Family,
    Overlay,
    seen,
    two_networks,
)
from tests.scenarios.rfc.table import MAY, MUST, SHOULD, TABLE, not_here, requirement

SYN, ACK, RST, FIN = 0x02, 0x10, 0x04, 0x01
FORWARD, RETURN = Direction.FORWARD, Direction.RETURN
OPEN = Filtering.ENDPOINT_INDEPENDENT
BY_ADDRESS = Filtering.ADDRESS_DEPENDENT
CLOSED = Filtering.ADDRESS_AND_PORT_DEPENDENT
OTHER = "198.51.100.77"
MAKE = {17: frames.udp, 6: frames.tcp}
PROTOCOLS = pytest.mark.parametrize("proto", [17, 6], ids=["UDP", "TCP"])
CHECKS = "counted neither way: the checksum stays as wrong as it was"


class Nat:
    """Network a (vm1, vm3) behind masquerade: what goes out, what comes in.

    Args:
        family: of all addresses.
        filtering: of the masquerade.
        pool: how many NAT addresses it has.
        blocks: leased blocks of 64 ports of each.
    """

    def __init__(
        self,
        family: Family = V4,
        filtering: Filtering = CLOSED,
        pool: int = 1,
        blocks: tuple[int, ...] = (16, 62, 63),
    ) -> None:
        self.family = family
        b = two_networks(family)
        addresses = [family.nat_ip(10 + number) for number in range(pool)]
        rule = b.masquerade("r", family.subnet(1), addresses[0], vport="r/up")
        numbers = tuple(sorted(parse_ip(address) for address in addresses))
        b.put(replace(rule, addresses=numbers, filtering=filtering))
        for address in addresses:
            for block in blocks:
                b.lease("r", address, block, "node1")
        self.overlay = Overlay(b)
        self.nat = addresses[0]

    def out(
        self, sport: int = 4000, dst: str = "", dport: int = 53, **more: Any
    ) -> tuple[str, int]:
        """Send from vm1 (or `vm`) to the outside; return what that sees."""
        simulation = self.send(sport, dst, dport, **more)
        assert isinstance(simulation.outcome, Forward), simulation.outcome
        packet = seen(simulation).payload
        return packet.src, packet.payload.sport

    def send(
        self, sport: int = 4000, dst: str = "", dport: int = 53, **more: Any
    ) -> Any:
        vm, proto = more.pop("vm", 1), more.pop("proto", 17)
        frame = MAKE[proto](
            self.family.ip(1, 10 + vm),
            dst or self.family.outside,
            sport,
            dport,
            eth_src=f"02:00:00:00:00:0{vm}",
            eth_dst=self.overlay.mac("r/a"),
            **more,
        )
        return self.overlay.carry(f"a/vm{vm}", frame)

    def come(
        self, to: tuple[str, int], src: str = "", sport: int = 53, **more: Any
    ) -> Any:
        """Send from the outside to what it saw; return the simulation."""
        make = MAKE[more.pop("proto", 17)]
        return self.overlay.carry(
            "r/up",
            make(
                src or self.family.outside,
                to[0],
                sport,
                to[1],
                eth_src=GATEWAY_MAC,
                eth_dst=self.overlay.mac("r/up"),
                **more,
            ),
        )

    def error(self, about: Any, src: str = "198.51.100.1", **more: Any) -> Any:
        """Send an error from the outside about a packet that came out."""
        quoted = bytes(seen(about).payload)
        frame = frames.icmp_error(
            quoted,
            src,
            more.pop("dst", "") or seen(about).payload.src,
            eth_src=GATEWAY_MAC,
            eth_dst=self.overlay.mac("r/up"),
            **more,
        )
        return self.overlay.carry("r/up", frame)

    def ping(self, identifier: int, dst: str = "", vm: int = 1, **more: Any) -> Any:
        frame = self.family.echo(
            self.family.ip(1, 10 + vm),
            dst or self.family.outside,
            identifier=identifier,
            eth_src=f"02:00:00:00:00:0{vm}",
            eth_dst=self.overlay.mac("r/a"),
            **more,
        )
        return self.overlay.carry(f"a/vm{vm}", frame)


# Mapping.


@requirement(4787, "REQ-1", MUST, "endpoint-independent mapping")
@requirement(5382, "REQ-1", MUST, "endpoint-independent mapping for TCP")
@FAMILIES
@PROTOCOLS
def test_mapping_is_the_same_for_every_destination(family: Family, proto: int) -> None:
    nat = Nat(family)
    first = nat.out(4000, proto=proto)
    other = "2001:db8:9::77" if family.is_v6 else OTHER

    assert nat.out(4000, dport=99, proto=proto) == first
    assert nat.out(4000, other, proto=proto) == first


@requirement(4787, "REQ-2", SHOULD, "address pooling: paired")
@requirement(7857, "section 4", SHOULD, "pooling paired also among protocols")
def test_host_keeps_its_address_of_a_pool() -> None:
    nat = Nat(pool=3)
    seen_by = {
        nat.out(port, dst, proto=proto)[0]
        for port in range(4000, 4010)
        for dst in (V4.outside, OTHER)
        for proto in (17, 6)
    }
    assert len(seen_by) == 1


@requirement(4787, "REQ-3", MUST, "no port overloading")
@requirement(5382, "REQ-7", MUST, "no port overloading for TCP")
@PROTOCOLS
def test_two_endpoints_never_share_a_port_for_one_destination(proto: int) -> None:
    nat = Nat()

    assert nat.out(4000, proto=proto) != nat.out(4000, vm=3, proto=proto)


@requirement(
    4787,
    "REQ-3a",
    SHOULD,
    "ports 0-1023 map to 0-1023, others to 1024-65535",
    "differs below 1024: those ports are left to services (RFC 6056, section 3.2)",
)
@pytest.mark.parametrize("port", [53, 500, 1023, 1024, 60000])
def test_port_outside_is_never_a_system_port(port: int) -> None:
    assert Nat().out(port)[1] >= 1024


@requirement(4787, "REQ-4", SHOULD, "port parity is kept")
@requirement(7857, "section 9", MAY, "parity need not be kept", "is kept")
@pytest.mark.parametrize("port", [4000, 4001, 50000, 50001])
def test_parity_is_kept(port: int) -> None:
    nat = Nat()
    nat.out(port, vm=3)

    assert nat.out(port)[1] % 2 == port % 2


@requirement(4787, "section 4.2.3", MAY, "contiguous ports (not asked for)", "no")
@requirement(7857, "section 3", MAY, "a port serves several destinations", "when short")
def test_port_is_shared_among_destinations_when_there_is_no_other() -> None:
    nat = Nat(blocks=(16,))
    nat.overlay.nat.lease_failed(nat.overlay.key("r"), parse_ip(nat.nat), NOW)
    for port in range(64):
        nat.out(2000 + port)

    address, port = nat.out(3000, OTHER)

    assert address == nat.nat
    assert 1024 <= port < 1088


@requirement(7857, "section 10", SHOULD, "ports are hard to guess (RFC 6056)")
def test_new_port_does_not_follow_from_the_last_one() -> None:
    nat = Nat()
    ports = [nat.out(20000 + 2 * number)[1] for number in range(20)]
    steps = {two - one for one, two in zip(ports, ports[1:])}

    assert len(steps) > 5


@requirement(7857, "section 5", SHOULD, "mapping is independent per protocol")
def test_protocols_have_mappings_of_their_own() -> None:
    nat = Nat()
    nat.out(3990, vm=3, proto=6)

    assert nat.out(3990, proto=17)[1] == 3990
    assert nat.out(3990, proto=6)[1] != 3990


@requirement(4787, "REQ-11", MUST, "deterministic behaviour")
def test_same_packets_get_the_same_ports() -> None:
    one, two = Nat(), Nat()
    for port in (53, 4000, 4000, 50000):
        for vm in (1, 3):
            assert one.out(port, vm=vm) == two.out(port, vm=vm)


@requirement(7857, "section 11", SHOULD, "IPv4 identification (RFC 6864)", "as it came")
def test_identification_is_not_changed() -> None:
    simulation = Nat().send()
    before = Ether(simulation.packet.frame).payload.id

    assert seen(simulation).payload.id == before


# Filtering.


@requirement(4787, "REQ-8", SHOULD, "filtering: one of two", "an option, see answer")
@requirement(5382, "REQ-3", SHOULD, "filtering for TCP: one of two", "an option")
@requirement(
    5382,
    "REQ-3a",
    MAY,
    "filtering is configurable",
    "`filtering`; address-and-port-dependent by default, as Linux and OVN",
)
@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize(
    ("filtering", "stranger", "other_port"),
    [(OPEN, True, True), (BY_ADDRESS, False, True), (CLOSED, False, False)],
    ids=lambda value: getattr(value, "value", ""),
)
def test_filtering_lets_in_whom_it_says(
    family: Family,
    proto: int,
    filtering: Filtering,
    stranger: bool,
    other_port: bool,
) -> None:
    nat = Nat(family, filtering)
    mapped = nat.out(4000, proto=proto)
    other = "2001:db8:9::77" if family.is_v6 else OTHER

    for src, sport, passes in (
        (family.outside, 53, True),
        (family.outside, 54, other_port),
        (other, 53, stranger),
    ):
        simulation = nat.come(mapped, src, sport, proto=proto)
        assert isinstance(simulation.outcome, Forward) is passes
        if passes:
            inner = seen(simulation).payload
            assert (inner.dst, inner.payload.dport) == (family.ip(1, 11), 4000)


@requirement(5382, "REQ-3b", MAY, "filtering for TCP apart from UDP's", "the same")
@requirement(7857, "section 6", SHOULD, "filtering is independent per protocol")
def test_mapping_of_one_protocol_opens_nothing_to_another() -> None:
    nat = Nat(filtering=OPEN)
    mapped = nat.out(4000, proto=17)

    simulation = nat.come(mapped, OTHER, proto=6)

    assert simulation.outcome == Drop(Reason.NO_BINDING)


@requirement(7857, "section 7", MAY, "who is let in refreshes the mapping", "does")
def test_port_stays_with_its_endpoint_while_somebody_let_in_uses_it() -> None:
    nat = Nat(filtering=OPEN)
    mapped = nat.out(4000)
    nat.come(mapped, OTHER, 99)
    first = next(iter(nat.overlay.connections))
    nat.overlay.connections.remove(first.id)
    nat.overlay.nat.release(first)

    assert nat.out(4000, vm=3) != mapped
    assert nat.out(4000, dport=77) == mapped


# Time.


@requirement(4787, "REQ-5", MUST, "a UDP mapping lives two minutes at least")
@requirement(4787, "REQ-5c", SHOULD, "five minutes by default", "300 s, 120 unreplied")
@requirement(4787, "REQ-5b", MAY, "configurable", "lifetime_udp_s")
@pytest.mark.parametrize(
    ("replied", "lives", "ends"), [(False, 119, 121), (True, 299, 301)]
)
def test_udp_mapping_lives(replied: bool, lives: int, ends: int) -> None:
    nat = Nat()
    nat.out(4000)
    connections = nat.overlay.connections
    (record,) = connections
    if replied:
        connections.touch(record.id, NOW, next_phase(record.phase, 17, 0, RETURN))

    connections.touch(record.id, NOW)
    assert connections.expire(NOW + lives) == []
    assert connections.expire(NOW + ends + 1) == [record]


not_here(4787, "REQ-5a", MAY, "shorter timers per port", "one timer for all ports")


@requirement(4787, "REQ-6", MUST, "outbound packets refresh the mapping")
@requirement(4787, "REQ-6a", MAY, "inbound packets refresh it too", "they do")
@pytest.mark.parametrize("inbound", [False, True], ids=["outbound", "inbound"])
def test_packets_either_way_refresh(inbound: bool) -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame(sport=6400))
    (record,) = bench.core.connections
    bench.now += 50.0

    if inbound:
        bench.send("r/up", bench.reply(dport=6400))
    else:
        bench.send("web/vm1", bench.frame(sport=6400, flags="A"))

    assert record.last_used == bench.now


@requirement(5382, "REQ-5", MUST, "established 2 h 4 min, transitory 4 min at least")
@requirement(5382, "REQ-5a", MAY, "configurable", "lifetime_tcp_*_s")
@requirement(7857, "section 2.2", SHOULD, "opening and closing apart", "two options")
def test_tcp_lifetimes() -> None:
    assert DEFAULT_LIFETIMES_S[Phase.TCP_ESTABLISHED] >= 7440
    assert DEFAULT_LIFETIMES_S[Phase.TCP_TRANSITORY] >= 240
    assert DEFAULT_LIFETIMES_S[Phase.TCP_CLOSING] >= 240


@requirement(
    7857,
    "section 2.1",
    SHOULD,
    "the session states of RFC 6146",
    "differs: the first FIN makes it closing, data established again; a switch that "
    "sees a FIN cannot tell it from RST, and two hours for each RST would eat ports",
)
def test_session_states() -> None:
    steps = [
        (SYN, FORWARD, False, Phase.TCP_TRANSITORY),
        (SYN | ACK, RETURN, False, Phase.TCP_ESTABLISHED),
        (ACK, FORWARD, True, Phase.TCP_ESTABLISHED),
        (FIN | ACK, FORWARD, False, Phase.TCP_CLOSING),
        (ACK, RETURN, False, Phase.TCP_CLOSING),
        (ACK, RETURN, True, Phase.TCP_ESTABLISHED),
        (FIN | ACK, RETURN, False, Phase.TCP_CLOSING),
        (ACK, FORWARD, False, Phase.TCP_CLOSING),
        (SYN, FORWARD, False, Phase.TCP_TRANSITORY),
    ]
    phase = Phase.TCP_TRANSITORY
    for flags, direction, has_data, after in steps:
        phase = next_phase(phase, 6, flags, direction, has_data=has_data)
        assert phase is after


@requirement(7857, "section 2.3", MUST, "a RST is translated; the mapping stays 4 min")
def test_reset_passes_and_the_mapping_stays() -> None:
    nat = Nat()
    mapped = nat.out(4000, proto=6)
    (record,) = nat.overlay.connections

    reset = nat.come(mapped, proto=6, flags="RA")

    assert seen(reset).payload.payload.flags == "RA"
    phase = next_phase(record.phase, 6, RST | ACK, RETURN)
    nat.overlay.connections.touch(record.id, NOW, phase)
    assert nat.overlay.connections.expire(NOW + 239) == []
    assert nat.overlay.connections.expire(NOW + 242) == [record]


@requirement(
    7857,
    "section 8",
    SHOULD,
    "outbound errors and RSTs that answer do not refresh",
    "errors do not; differs for RST: it begins the 4 minutes of closing",
)
@requirement(5508, "REQ-6", MUST, "an error does not refresh what it is about")
@requirement(4787, "REQ-12", MUST, "ICMP ends no mapping")
@requirement(5382, "REQ-10", MUST, "ICMP ends no mapping of TCP")
def test_error_neither_refreshes_nor_ends() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    out = bench.send("web/vm1", bench.frame(sport=6400)).packet_outs
    assert out
    (record,) = bench.core.connections
    used, phase = record.last_used, record.phase
    quoted = bytes(IP(src=NAT, dst="198.51.100.9") / TCP(sport=6400, dport=80))
    bench.now += 20.0

    bench.send(
        "r/up",
        frames.icmp_error(
            quoted,
            "198.51.100.1",
            NAT,
            eth_src=GATEWAY_MAC,
            eth_dst="02:cc:00:00:00:01",
        ),
    )

    assert (record.last_used, record.phase) == (used, phase)
    assert bench.core.connections.get(record.id) is record


@requirement(5508, "REQ-2", MUST, "an ICMP query lives 60 s at least, configurable")
def test_query_lives_a_minute() -> None:
    nat = Nat()
    nat.ping(7)
    (record,) = nat.overlay.connections
    nat.overlay.connections.touch(record.id, NOW)

    assert nat.overlay.connections.expire(NOW + 59) == []
    assert nat.overlay.connections.expire(NOW + 62) == [record]


@requirement(7857, "section 12", MAY, "a query mapping goes with its last session")
def test_identifier_is_free_after_its_last_session() -> None:
    nat = Nat()
    nat.ping(4000)
    (record,) = nat.overlay.connections
    nat.overlay.connections.remove(record.id)
    nat.overlay.nat.release(record)

    assert seen(nat.ping(4000, vm=3))[ICMP].id == 4000


# TCP.


@requirement(5382, "REQ-2", MUST, "all valid sequences of TCP packets")
@FAMILIES
def test_handshake_data_and_end_pass(family: Family) -> None:
    nat = Nat(family)
    mapped = nat.out(4000, proto=6)
    for ours, flags in (
        (False, "SA"),
        (True, "A"),
        (True, "PA"),
        (False, "A"),
        (True, "FA"),
        (False, "FA"),
        (True, "A"),
        (True, "S"),
    ):
        if ours:
            assert nat.out(4000, proto=6, flags=flags) == mapped
        else:
            back = nat.come(mapped, proto=6, flags=flags)
            assert seen(back).payload.payload.dport == 4000


@requirement(5382, "REQ-2a", MUST, "simultaneous open")
@FAMILIES
def test_simultaneous_open_passes(family: Family) -> None:
    nat = Nat(family)
    mapped = nat.out(4000, proto=6, flags="S")

    theirs = nat.come(mapped, proto=6, flags="S")

    assert isinstance(theirs.outcome, Forward)
    inner = seen(theirs).payload
    assert (inner.dst, inner.payload.dport) == (family.ip(1, 11), 4000)
    assert nat.out(4000, proto=6, flags="SA") == mapped
    assert isinstance(nat.come(mapped, proto=6, flags="SA").outcome, Forward)


@requirement(5382, "REQ-4", MUST, "no answer to an unsolicited SYN for 6 s")
@requirement(
    5382,
    "REQ-4a",
    SHOULD,
    "then ICMP port unreachable, unless policy forbids",
    "after unsolicited_syn_wait_s (6); 0 never answers",
)
def test_unsolicited_syn_is_told_after_six_seconds() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    begin = len(bench.done)
    bench.send("r/up", bench.reply(flags="S", dport=6401))
    bench.wait(5.9)
    assert not any(one.packet_outs for one in bench.done[begin:])

    effects = bench.wait(0.2)

    (out,) = effects.packet_outs
    error = Ether(out.frame)[ICMP]
    assert (error.type, error.code) == (3, 3)


not_here(5382, "REQ-6", SHOULD, "ALGs are off by default", "there are none")
not_here(4787, "REQ-10", SHOULD, "ALGs are off by default", "there are none")


# Hairpin.


@requirement(4787, "REQ-9", MUST, "hairpinning")
@requirement(4787, "REQ-9a", MUST, "with the external source address and port")
@requirement(5382, "REQ-8", MUST, "hairpinning for TCP")
@FAMILIES
@PROTOCOLS
def test_hairpin_shows_the_external_source(family: Family, proto: int) -> None:
    nat = Nat(family, OPEN)
    address, port = nat.out(5000, vm=3, proto=proto)
    caller = nat.out(4000, proto=proto)

    call = nat.send(4000, address, port, proto=proto)

    assert nat.overlay.names(call) == ("a/vm3",)
    inner = seen(call).payload
    assert (inner.dst, inner.payload.dport) == (family.ip(1, 13), 5000)
    assert (inner.src, inner.payload.sport) == caller
    answer = nat.send(5000, *caller, vm=3, proto=proto, **_flags(proto))
    assert nat.overlay.names(answer) == ("a/vm1",)
    back = seen(answer).payload
    assert (back.src, back.payload.sport) == (address, port)


def _flags(proto: int) -> dict[str, Any]:
    return {"flags": "SA"} if proto == 6 else {}


@requirement(5508, "REQ-7", MUST, "hairpinned ICMP errors")
@requirement(5508, "REQ-7a", MUST, "with the outer destination of the quote's source")
def test_error_about_a_hairpinned_packet_goes_back() -> None:
    nat = Nat(filtering=OPEN)
    address, port = nat.out(5000, vm=3)
    nat.out(4000)
    call = nat.send(4000, address, port)
    inside = seen(call)
    frame = frames.icmp_error(
        bytes(inside.payload),
        V4.ip(1, 13),
        inside.payload.src,
        code=3,
        eth_src="02:00:00:00:00:03",
        eth_dst=nat.overlay.mac("r/a"),
    )

    back = nat.overlay.carry("a/vm3", frame)

    assert nat.overlay.names(back) == ("a/vm1",)
    error = seen(back)
    assert error.payload.dst == V4.ip(1, 11)
    assert error.payload.src == address
    quote = IP(bytes(error[ICMP].payload))
    assert (quote.src, quote.dst) == (V4.ip(1, 11), address)
    assert (quote[UDP].sport, quote[UDP].dport) == (4000, port)


# ICMP.


@requirement(5508, "REQ-1", MUST, "queries from inside and their answers pass")
@requirement(5508, "REQ-1a", SHOULD, "identifiers map independently of the destination")
@FAMILIES
def test_query_has_one_identifier_outside(family: Family) -> None:
    nat = Nat(family)
    other = "2001:db8:9::77" if family.is_v6 else OTHER
    asked = nat.ping(4000)
    again = nat.ping(4000, other)
    identifiers = [seen(one).payload.payload.id for one in (asked, again)]

    assert identifiers[0] == identifiers[1]
    reply = family.echo(
        family.outside,
        nat.nat,
        identifier=identifiers[0],
        reply=True,
        eth_src=GATEWAY_MAC,
        eth_dst=nat.overlay.mac("r/up"),
    )
    back = nat.overlay.carry("r/up", reply)
    assert seen(back).payload.dst == family.ip(1, 11)
    assert seen(back).payload.payload.id == 4000


def test_query_identifiers_that_collide_are_told_apart() -> None:
    nat = Nat()

    one, two = (seen(nat.ping(4000, vm=vm))[ICMP].id for vm in (1, 3))

    assert one != two


@requirement(5508, "REQ-3", SHOULD, "a wrong ICMP checksum is dropped", CHECKS)
@requirement(5508, "REQ-3a", SHOULD, "a wrong checksum in the quote is dropped", CHECKS)
@requirement(5508, "REQ-3c", SHOULD, "the quote's transport checksum is not checked")
def test_wrong_checksums_are_not_repaired() -> None:
    nat = Nat()
    about = nat.send(4000)
    quoted = bytes(seen(about).payload)
    frame = bytearray(
        frames.icmp_error(
            quoted,
            "198.51.100.1",
            nat.nat,
            eth_src=GATEWAY_MAC,
            eth_dst=nat.overlay.mac("r/up"),
        )
    )
    frame[36] ^= 0x55
    simulation = nat.overlay.carry("r/up", bytes(frame))
    if not isinstance(simulation.outcome, Forward):
        return
    from midoryu.translation.flows import frame_of

    out = frame_of(simulation)
    assert frames.recomputed(out) != out


@requirement(5508, "REQ-3b", MUST, "IP options in the quote are passed over")
def test_options_in_the_quote_are_passed_over() -> None:
    nat = Nat()
    about = nat.send(4000)
    plain = seen(about).payload
    quoted = IP(
        src=plain.src,
        dst=plain.dst,
        options=[IPOption(b"\x01\x01\x01\x01")],
    ) / UDP(sport=plain.payload.sport, dport=plain.payload.dport)
    frame = frames.icmp_error(
        bytes(quoted),
        "198.51.100.1",
        nat.nat,
        eth_src=GATEWAY_MAC,
        eth_dst=nat.overlay.mac("r/up"),
    )

    back = seen(nat.overlay.carry("r/up", frame))

    quote = IP(bytes(back[ICMP].payload))
    assert (quote.src, quote[UDP].sport) == (V4.ip(1, 11), 4000)


not_here(
    5508, "REQ-3d", MUST, "extensions are left out of checksums", "none is checked"
)


@requirement(5508, "REQ-4", MUST, "an error from outside is reverted, or dropped")
@requirement(4787, "REQ-12a", SHOULD, "whoever it comes from")
@requirement(4787, "REQ-12b", SHOULD, "destination unreachable is supported")
@requirement(5382, "REQ-9", SHOULD, "destination unreachable is translated for TCP")
@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_error_from_outside_is_reverted(family: Family, proto: int, code: int) -> None:
    nat = Nat(family)
    about = nat.send(4000, proto=proto)
    src = "2001:db8:9::1" if family.is_v6 else "198.51.100.1"
    kind = 1 if family.is_v6 else 3

    back = seen(nat.error(about, src, kind=kind, code=code))

    sent = Ether(about.packet.frame)
    assert (back.payload.src, back.payload.dst) == (src, family.ip(1, 11))
    message = back.payload.payload
    assert (message.type, message.code) == (kind, code)
    quote = bytes(back.payload.payload)[8:]
    expected = bytearray(bytes(sent.payload))
    ttl = 7 if family.is_v6 else 8
    expected[ttl] -= 1
    if not family.is_v6:
        expected[10:12] = bytes(IP(bytes(expected)[:20]).chksum.to_bytes(2, "big"))
        again = IP(bytes(expected)[:20])
        del again.chksum
        expected[10:12] = bytes(again)[10:12]
    assert quote == bytes(expected)


def test_error_about_nothing_known_is_dropped() -> None:
    nat = Nat()
    nat.out(4000)
    quoted = IP(src=nat.nat, dst=V4.outside) / UDP(sport=4444, dport=53)
    frame = frames.icmp_error(
        bytes(quoted),
        "198.51.100.1",
        nat.nat,
        eth_src=GATEWAY_MAC,
        eth_dst=nat.overlay.mac("r/up"),
    )

    assert nat.overlay.carry("r/up", frame).outcome == Drop(Reason.NO_BINDING)


@requirement(5508, "REQ-5", MUST, "an error from inside is translated, or dropped")
@requirement(5508, "REQ-5c", MUST, "it shows the NAT's own address")
@pytest.mark.parametrize("said_by", [11, 99], ids=["endpoint", "router inside"])
def test_error_from_inside_shows_the_outside_address(said_by: int) -> None:
    nat = Nat()
    mapped = nat.out(4000)
    inside = seen(nat.come(mapped))
    frame = frames.icmp_error(
        bytes(inside.payload),
        V4.ip(1, said_by),
        V4.outside,
        code=3,
        eth_src="02:00:00:00:00:01",
        eth_dst=nat.overlay.mac("r/a"),
    )

    out = seen(nat.overlay.carry("a/vm1", frame))

    assert (out.payload.src, out.payload.dst) == (nat.nat, V4.outside)
    quote = IP(bytes(out[ICMP].payload))
    assert (quote.src, quote.dst) == (V4.outside, nat.nat)
    assert quote[UDP].dport == mapped[1]


@requirement(5508, "REQ-8", SHOULD, "no port left: ICMP code 13, and counted")
@requirement(4787, "section 11", SHOULD, "no port left: ICMP error")
@FAMILIES
def test_exhaustion_is_told(family: Family) -> None:
    nat = Nat(family, blocks=(16,))
    nat.overlay.nat.lease_failed(nat.overlay.key("r"), parse_ip(nat.nat), NOW)
    for port in range(64):
        nat.out(2000 + port)

    simulation = nat.send(3000)

    assert simulation.outcome == Consumed(Reason.NAT_EXHAUSTED)
    _, answer = nat.overlay.said(simulation)
    error = answer.payload.payload
    assert (error.type, error.code) == ((1, 1) if family.is_v6 else (3, 13))


not_here(5508, "REQ-9", MAY, "a policy against ICMP messages", "none but filters")


@requirement(5508, "REQ-10", MUST, "time exceeded, unreachable; errors both ways")
@FAMILIES
def test_time_exceeded_is_told_with_the_senders_own_packet(family: Family) -> None:
    nat = Nat(family)

    simulation = nat.send(4000, ttl=1)

    _, answer = nat.overlay.said(simulation)
    error = answer.payload.payload
    assert error.type == (3 if family.is_v6 else 11)
    assert bytes(error)[8:] == simulation.packet.frame[14:]


@requirement(5508, "REQ-11", MAY, "other ICMP messages are dropped", "dropped")
def test_other_messages_are_dropped() -> None:
    nat = Nat()
    redirectless = IP(src=V4.ip(1, 11), dst=V4.outside) / ICMP(type=30) / Raw(b"x" * 8)
    frame = frames.ethernet(
        redirectless, eth_src="02:00:00:00:00:01", eth_dst=nat.overlay.mac("r/a")
    )

    assert nat.overlay.carry("a/vm1", frame).outcome == Drop(Reason.NAT_PROTOCOL)


not_here(
    4787, "REQ-7", MUST, "inside and outside may not conflict", "addresses are set"
)
not_here(4787, "REQ-13", MUST, "fragmentation needed is told", "path MTU has its tests")
not_here(4787, "REQ-14", MUST, "fragments in any order", "fragments have their tests")


# The table itself.


@pytest.mark.parametrize(("rfc", "last"), [(4787, 14), (5382, 10), (5508, 11)], ids=str)
def test_no_requirement_is_left_out(rfc: int, last: int) -> None:
    numbers = {row.number for row in TABLE if row.rfc == rfc}

    assert {f"REQ-{number}" for number in range(1, last + 1)} <= numbers


def test_sections_of_the_update_are_all_there() -> None:
    sections = {row.number for row in TABLE if row.rfc == 7857}
    asked = {"2.1", "2.2", "2.3", *map(str, range(3, 13))}

    assert sections == {f"section {number}" for number in asked}


def test_row_that_differs_says_why() -> None:
    for row in TABLE:
        assert row.test in globals() or (not row.test and len(row.answer) > 10)
        if row.answer.startswith("differs"):
            assert ":" in row.answer
