# SPDX-License-Identifier: Apache-2.0
"""The agent with a real OVS: what is sent arrives, what happens is told."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from midoryu.engine.effect import Effects
from midoryu.engine.event import (
    FlowRefused,
    FlowRemoved,
    InterfacesChanged,
    PacketIn,
    SwitchConnected,
)
from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Flow, InstallFlow, Match, PacketOut, RemoveFlow
from midoryu.packet import field
from midoryu.packet.address import parse_ip, parse_mac
from tests.functional.agent_host import (
    LOCAL_IP,
    PEER_IP,
    PEER_MAC,
    AgentHost,
    wait_for,
)

PEER = parse_ip(PEER_IP)
VM_FRAME = (
    bytes.fromhex("020000000002020000000001") + b"\x88\xb5" + b"from vm".ljust(50)
)


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    """Give a host with a running agent and one vport."""
    host = AgentHost()
    try:
        host.start_agent()
        host.wait_ready()
        host.vsctl(
            *("add-port", "br-int", "v1", "--"),
            *("set", "interface", "v1", "external_ids:iface-id=web/vm1"),
        )
        wait_for(
            lambda: "in_port=v1" in host.flows() or "METER" in host.flows().upper()
        )
        for device in ("v1p", "u1p"):
            host.watch(device)
        yield host
    finally:
        host.close()


def vport_ofport(host: AgentHost) -> int:
    """Return the ofport of the vport."""
    return host.events(InterfacesChanged)[-1].ofport_by_iface_id["web/vm1"]


def ipv4(ttl: int, tag: bytes) -> bytes:
    """Build a UDP packet from vm1."""
    udp = struct.pack(">HHHH", 1000, 2000, 8 + len(tag), 0) + tag
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(udp),
        1,
        0,
        ttl,
        17,
        0,
        b"\n\1\0\1",
        b"\n\1\0\2",
    )
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:]
    return VM_FRAME[:12] + b"\x08\x00" + head + udp


def packet_in_with(host: AgentHost, tag: bytes) -> PacketIn:
    """Wait for the packet-in whose frame holds a tag."""

    def look() -> list[PacketIn]:
        return [value for value in host.events(PacketIn) if tag in value.frame]

    return wait_for(look)[-1]


def gre(key: int, frame: bytes) -> bytes:
    """Wrap a frame as the peer's tunnel would."""
    body = struct.pack(">HHI", 0x2000, 0x6558, key) + frame
    peer, local = (bytes(map(int, ip.split("."))) for ip in (PEER_IP, LOCAL_IP))
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, 47, 0, peer, local
    )
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + body


def from_peer(host: AgentHost, packet: bytes) -> bytes:
    """Put the underlay's Ethernet header before a packet of the peer."""
    mac = host.inside("cat", "/sys/class/net/br-phy/address").strip().replace(":", "")
    return bytes.fromhex(mac + PEER_MAC.replace(":", "")) + b"\x08\x00" + packet


def next_gre(host: AgentHost) -> tuple[int, int, bytes]:
    """Return (outer TOS, key, inner frame) of the next GRE packet to the peer."""
    while True:
        frame = host.next_frame("u1p")
        assert frame is not None, "no GRE packet reached the underlay"
        if frame[12:14] == b"\x08\x00" and frame[23] == 47:
            assert frame[34:38] == b"\x20\x00\x65\x58"
            return frame[15], int.from_bytes(frame[38:42], "big"), frame[42:]


def test_the_bridge_is_as_the_settings_say(host: AgentHost) -> None:
    assert host.vsctl("get", "bridge", "br-int", "fail_mode").strip() == "secure"
    options = host.vsctl("get", "interface", "mr-state", "options")
    assert '"16777215"' in options
    assert 'tos="184"' in options
    assert f'local_ip="{LOCAL_IP}"' in options


def test_base_flows_stand(host: AgentHost) -> None:
    flows = host.flows()

    assert flows.count("priority=0 actions=drop") == len(pipeline.TABLE_NAMES)
    by_flags = f"priority={pipeline.PRIORITY_APART},"
    assert flows.count(by_flags) == 2, "one each of IPv4 and IPv6"
    assert "nw_src=127.0.0.0/8 actions=drop" in flows
    assert "goto_table:20" in flows
    assert "CONTROLLER:65535" in flows


def test_an_interface_whose_flows_are_in_is_marked(host: AgentHost) -> None:
    wait_for(
        lambda: (
            "midoryu-installed" in host.vsctl("get", "interface", "v1", "external_ids")
        )
    )


def test_what_somebody_changes_at_the_bridge_is_put_back(host: AgentHost) -> None:
    host.vsctl("set", "bridge", "br-int", "fail_mode=standalone")
    host.vsctl("set", "interface", "mr-state", "options:tos=0")

    wait_for(lambda: "secure" in host.vsctl("get", "bridge", "br-int", "fail_mode"))
    wait_for(lambda: "184" in host.vsctl("get", "interface", "mr-state", "options"))


def test_a_frame_of_a_vm_arrives_as_packet_in(host: AgentHost) -> None:
    host.send("v1p", VM_FRAME)

    seen = packet_in_with(host, b"from vm")

    assert seen.frame == VM_FRAME
    assert seen.in_port == vport_ofport(host)
    assert (seen.table, seen.tunnel_key) == (pipeline.VPORT, 0)


def test_a_packet_out_leaves_at_the_vport(host: AgentHost) -> None:
    frame = VM_FRAME.replace(b"from vm", b"to a vm")
    host.do(
        Effects(packet_outs=[PacketOut(frame, ((flow.OUTPUT, vport_ofport(host)),))])
    )

    seen = host.next_frame("v1p")
    while seen is not None and b"to a vm" not in seen:
        seen = host.next_frame("v1p")

    assert seen == frame


def test_flow_state_leaves_with_its_key_and_priority_ahead_of_data(
    host: AgentHost,
) -> None:
    connected = host.events(SwitchConnected)[-1]
    state, data = connected.state_ofport, connected.gre_ofport
    host.do(
        Effects(
            state_pushes=[
                PacketOut(
                    VM_FRAME.replace(b"from vm", b"state"),
                    ((flow.SET_TUNNEL, 0xFFFFFF, PEER), (flow.OUTPUT, state)),
                )
            ],
            packet_outs=[
                PacketOut(
                    VM_FRAME.replace(b"from vm", b"data"),
                    ((flow.SET_TUNNEL, 77, PEER), (flow.OUTPUT, data)),
                )
            ],
        )
    )

    first, second = next_gre(host), next_gre(host)

    assert first[:2] == (0xB8, 0xFFFFFF)
    assert b"state" in first[2]
    assert second[:2] == (0, 77)
    assert b"data" in second[2]


def test_flow_state_of_a_peer_arrives_with_key_and_source(host: AgentHost) -> None:
    inner = VM_FRAME.replace(b"from vm", b"pushed")
    host.send("u1p", from_peer(host, gre(0xFFFFFF, inner)))

    seen = packet_in_with(host, b"pushed")

    assert seen.in_port == host.events(SwitchConnected)[-1].state_ofport
    assert (seen.tunnel_key, seen.tunnel_source) == (0xFFFFFF, PEER)
    assert seen.frame == inner


def test_a_frame_with_a_vports_key_goes_straight_to_it(host: AgentHost) -> None:
    inner = VM_FRAME.replace(b"from vm", b"tunnel")
    host.send("u1p", from_peer(host, gre(100 + vport_ofport(host), inner)))

    seen = host.next_frame("v1p")
    while seen is not None and b"tunnel" not in seen:
        seen = host.next_frame("v1p")

    assert seen == inner


def reactive(host: AgentHost, tag: int, **changes: object) -> Flow:
    """Make a flow for UDP from vm1 to a port."""
    fields = field.IN_PORT | field.ETH_TYPE | field.IP_PROTO | field.L4_DST
    values = (vport_ofport(host), 0x0800, 17, tag)
    settings: dict[str, object] = {
        "actions": ((flow.OUTPUT, 1),),
        "cookie": pipeline.cookie(pipeline.COOKIE_REACTIVE, tag),
        **changes,
    }
    return Flow(pipeline.VPORT, 1000, Match(fields, values), **settings)  # type: ignore[arg-type]


def test_a_packet_whose_ttl_ends_tells_after_how_many_hops(host: AgentHost) -> None:
    value = reactive(
        host,
        2000,
        actions=(
            (flow.DEC_TTL,),
            (flow.LOAD_HOPS, 1),
            (flow.DEC_TTL,),
            (flow.LOAD_HOPS, 2),
            (flow.DEC_TTL,),
            (flow.OUTPUT, 1),
        ),
    )
    host.do(Effects(flow_mods=[InstallFlow(value)]))
    wait_for(lambda: "dec_ttl" in host.flows())
    host.send("v1p", ipv4(2, b"short lived"))

    seen = packet_in_with(host, b"short lived")

    assert seen.reason == pipeline.REASON_INVALID_TTL
    assert seen.hops == 1
    assert seen.cookie == value.cookie
    host.do(Effects(flow_mods=[RemoveFlow(value)]))
    wait_for(lambda: "dec_ttl" not in host.flows())


def test_a_refused_flow_is_told_in_words(host: AgentHost) -> None:
    cookie = pipeline.cookie(pipeline.COOKIE_REACTIVE, 4242)
    # A UDP port cannot be set where nothing says that the packet is UDP.
    wrong = Flow(10, 5, Match(field.IN_PORT, (9,)), ((flow.SET_L4_SRC, 1, 17),), cookie)
    host.do(Effects(flow_mods=[InstallFlow(wrong)]))

    (refused,) = wait_for(lambda: host.events(FlowRefused))

    assert refused.cookie == cookie
    assert "bad" in refused.reason
    assert "set_l4_src" in refused.reason


def test_a_flow_that_idles_out_is_told(host: AgentHost) -> None:
    value = reactive(host, 2001, idle_timeout_s=1, notify_removed=True)
    host.do(Effects(flow_mods=[InstallFlow(value)]))

    removed = wait_for(
        lambda: [e for e in host.events(FlowRemoved) if e.cookie == value.cookie]
    )[0]

    assert (removed.reason, removed.idle_timeout_s) == (pipeline.REMOVED_IDLE, 1)
    assert removed.duration_s >= 1


def test_a_fault_in_one_packet_is_counted_and_the_next_one_works(
    host: AgentHost,
) -> None:
    host.send("v1p", VM_FRAME.replace(b"from vm", b"explode"))
    wait_for(lambda: host.ask("agent")["faults"])
    host.send("v1p", VM_FRAME.replace(b"from vm", b"go on"))

    assert packet_in_with(host, b"go on")
    assert "RuntimeError: asked for" in (host.dir / "agent.log").read_text()


def test_a_second_interface_with_the_same_iface_id_is_left_alone(
    host: AgentHost,
) -> None:
    before = vport_ofport(host)
    host.vsctl(
        *("add-port", "br-int", "v9", "--", "set", "interface", "v9"),
        *("type=internal", "external_ids:iface-id=web/vm1"),
    )
    log = host.dir / "agent.log"
    wait_for(lambda: "v9 has the iface-id 'web/vm1'" in log.read_text())

    assert vport_ofport(host) == before
    host.vsctl("del-port", "v9")


MANY_FLOWS = [
    (
        field.ETH_DST | field.ETH_SRC | field.VLAN,
        (parse_mac("02:00:00:00:00:09"), parse_mac("02:00:00:00:00:08"), 0),
        ((flow.PUSH_VLAN, 7), (flow.OUTPUT, 1)),
    ),
    (field.VLAN, (0x1007,), ((flow.POP_VLAN,), (flow.OUTPUT, 1))),
    (
        field.ETH_TYPE | field.IP_PROTO | field.IP_SRC | field.IP_DST,
        (0x0806, 1, parse_ip("10.1.0.1"), parse_ip("10.1.0.2")),
        ((flow.SET_ETH_SRC, 5), (flow.SET_ETH_DST, 6), (flow.OUTPUT, 1)),
    ),
    (
        field.ETH_TYPE | field.IP_TOS | field.IP_FRAG | field.IP_TTL,
        (0x0800, 0xB9, 2, 64),
        ((flow.SET_TOS, 0x2E), (flow.OUTPUT, 1)),
    ),
    (
        field.ETH_TYPE | field.IP_TOS,
        (0x0800, 0xB5),
        ((flow.METER, 1), (flow.SET_DSCP, 10), (flow.DELIVER, 7), (flow.DELIVER, 8)),
    ),
    (
        field.ETH_TYPE | field.IP_TOS,
        (0x86DD, 0xB5),
        ((flow.SET_DSCP, 10), (flow.CLEAR_IN_PORT,), (flow.OUTPUT, 1)),
    ),
    (
        field.ETH_TYPE | field.IP_PROTO | field.IP_FRAG | field.L4 | field.TCP_FLAGS,
        (0x0800, 6, 0, 80, 81, 0x12),
        (
            (flow.SET_IP_SRC, parse_ip("192.0.2.1")),
            (flow.SET_IP_DST, parse_ip("192.0.2.2")),
            (flow.SET_L4_SRC, 1, 6),
            (flow.SET_L4_DST, 2, 6),
            (flow.LOAD_HOPS, 3),
            (flow.DEC_TTL,),
            (flow.SET_TUNNEL, 77, PEER),
            (flow.OUTPUT, 1),
        ),
    ),
    (
        field.ETH_TYPE | field.IP_PROTO | field.L4 | field.ND_TARGET,
        (0x86DD, 58, 135, 0, parse_ip("2001:db8::1")),
        ((flow.SET_TUNNEL, 78, parse_ip("2001:db8::2")), (flow.OUTPUT, 1)),
    ),
    (
        field.ETH_TYPE | field.IP_PROTO | field.IP_SRC | field.IP_DST | field.L4,
        (0x0800, 1, parse_ip("10.1.0.1"), parse_ip("10.1.0.2"), 8, 0),
        ((flow.METER, 1), (flow.CONTROLLER,)),
    ),
    (field.TUNNEL_KEY, (0xFFFFFF,), ()),
    (
        field.ETH_TYPE | field.IP_PROTO | field.L4 | field.TCP_SYN,
        (0x86DD, 6, 80, 81, 0),
        ((flow.OUTPUT, 1),),
    ),
]


def test_flows_come_back_equal_when_the_agent_starts_again(host: AgentHost) -> None:
    flows = [
        Flow(
            pipeline.VPORT,
            2000 + number,
            Match(fields, values),
            actions,
            pipeline.cookie(pipeline.COOKIE_REACTIVE, number),
            idle_timeout_s=600,
            hard_timeout_s=900,
            fin_timeout_s=2 if field.TCP_FLAGS & fields else 0,
            notify_removed=True,
        )
        for number, (fields, values, actions) in enumerate(MANY_FLOWS)
    ]
    meter = flow.SetMeter(1, 1000, 100)
    host.do(Effects(flow_mods=[meter, *map(InstallFlow, flows)]))
    wait_for(lambda: f"priority={2000 + len(flows) - 1}" in host.flows())
    standing = host.flows()
    host.stop("agent")
    assert host.flows() == standing

    host.start_agent()
    host.wait_ready()

    found = host.events(SwitchConnected)[-1].flows
    assert {value for value in found if value.priority >= 2000} == set(flows)


def test_a_foreign_switch_and_garbage_do_not_disturb_the_local_one(
    host: AgentHost,
) -> None:
    before = host.ask("agent")
    host.inside(
        *(
            "bash",
            "-c",
            "exec 3<>/dev/tcp/127.0.0.1/6653; head -c 9000 /dev/urandom >&3",
        )
    )
    host.vsctl(
        *("add-br", "br-bad", "--", "set", "bridge", "br-bad", "datapath_type=netdev"),
        *("--", "set-controller", "br-bad", "tcp:127.0.0.1:6653"),
    )

    wait_for(lambda: host.ask("agent")["foreign_switches"])
    host.vsctl("del-br", "br-bad")

    after = host.ask("agent")
    assert (after["switch_ready"], after["connections"]) == (
        True,
        before["connections"],
    )


def test_sigterm_ends_the_agent_quickly_and_leaves_no_socket(host: AgentHost) -> None:
    began = time.monotonic()
    host.stop("agent")

    assert time.monotonic() - began < 2
    assert not (host.dir / "agent.sock").exists()
    host.start_agent()
    host.wait_ready()


def test_the_listener_is_on_loopback_only(host: AgentHost) -> None:
    listeners = host.inside("ss", "-Hltn").splitlines()

    assert [line.split()[3] for line in listeners] == ["127.0.0.1:6653"]


def test_a_restart_of_the_switch_is_survived(host: AgentHost) -> None:
    before = host.ask("agent")["connections"]
    host.stop("vswitchd")
    wait_for(lambda: not host.ask("agent")["switch_ready"])
    host.start_vswitchd()

    host.address_underlay()
    wait_for(lambda: host.ask("agent")["connections"] > before, 30)
    host.wait_ready()
    wait_for(lambda: host.flows().count("actions=drop") >= len(pipeline.TABLE_NAMES))


@pytest.mark.parametrize("tunnel_type", ["vxlan", "geneve"])
def test_other_tunnels_keep_state_and_data_apart_too(tunnel_type: str) -> None:
    host = AgentHost(tunnel_type)
    try:
        host.start_agent()
        host.wait_ready()
        host.watch("u1p")
        connected = host.events(SwitchConnected)[-1]
        for key, ofport in (
            (0xFFFFFF, connected.state_ofport),
            (77, connected.gre_ofport),
        ):
            out = ((flow.SET_TUNNEL, key, PEER), (flow.OUTPUT, ofport))
            host.do(Effects(packet_outs=[PacketOut(VM_FRAME, out)]))
            outer = next_udp(host)
            # RFC 7348, section 5; RFC 8926, section 3.4: the key's place is the same.
            assert int.from_bytes(outer[46:49], "big") == key
            assert outer[15] == (0xB8 if key == 0xFFFFFF else 0)
            assert outer[50:] == VM_FRAME
            host.send("u1p", from_peer(host, as_if_from_peer(outer)))
        seen = packet_in_with(host, b"from vm")
        assert (seen.in_port, seen.tunnel_key) == (connected.state_ofport, 0xFFFFFF)
        assert seen.tunnel_source == PEER
        assert len(host.events(PacketIn)) == 1
    finally:
        host.close()


def next_udp(host: AgentHost) -> bytes:
    """Return the next UDP packet to the peer."""
    while True:
        frame = host.next_frame("u1p")
        assert frame is not None, "no UDP packet reached the underlay"
        if frame[12:14] == b"\x08\x00" and frame[23] == 17:
            return frame


def as_if_from_peer(frame: bytes) -> bytes:
    """Turn an outer packet round: source and destination change places."""
    packet = frame[14:]
    return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
