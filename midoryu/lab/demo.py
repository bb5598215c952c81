# SPDX-License-Identifier: Apache-2.0
"""The main job as a story: four hosts, a NAT connection, its state where it must be.

`tools/demo` runs it. Each step does something on the real lab, shows what was seen, and
checks it; one failed check makes the whole end with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from midoryu.errors import DecodeError
from midoryu.lab.error import LabError
from midoryu.lab.gre import GrePacket
from midoryu.lab.lab import Lab
from midoryu.lab.session import Exchange, Session
from midoryu.lab.stage import (
    EF_TOS,
    HOSTS,
    INTERESTED,
    NAT,
    PORT,
    ROUTER,
    SERVER,
    VIP,
    Stage,
    by_host,
    is_ip,
    tuple_text,
)
from midoryu.lab.story import Story
from midoryu.openflow.pipeline import FLOW_STATE_KEY
from midoryu.packet.address import format_ip
from midoryu.packet.codec import decode

_LAB = Path(__file__).resolve().parents[2] / "tools" / "labs" / "four-hosts.yaml"

TRY_NEXT = """\
The lab stays up. Try:
  tools/lab status
  tools/lab exec vm2 -- curl -s http://198.51.100.10/          # through masquerade
  tools/lab exec server -- curl -s http://203.0.113.20/        # through DNAT to vm3
  tools/lab exec vm2 -- ping -c 3 198.51.100.10
  tools/lab capture node2 --filter 'proto gre'                 # the underlay
  tools/lab kill node1 agent; tools/lab restore node1 agent
  tools/lab exec upstream -- ip route replace 203.0.113.0/24 via 192.0.2.6
  tools/lab loss node4 30 --state-only
  tools/lab down"""


class Demo(Stage):
    """The story's steps on one lab."""

    def __init__(self, lab: Lab, story: Story) -> None:
        super().__init__(lab, story)
        self.outbound: Optional[Session] = None
        self.inbound: Optional[Session] = None
        self.nat_port = 0

    def run(self) -> None:
        """Tell the whole story."""
        for node in ("server", "vm3"):
            serve = [sys.executable, "-m", "midoryu.lab.session", "serve", str(PORT)]
            self.lab.popen(node, serve)
        time.sleep(1.0)
        self.masquerade()
        self.asymmetric_return()
        self.north_to_south()
        self.amnesiac()
        self.filter()
        self.gateway_dies()
        for session in (self.outbound, self.inbound):
            if session is not None:
                session.close()

    # Steps.

    def masquerade(self) -> None:
        """A VM opens a connection to the outside; its state goes ahead of it."""
        story = self.story
        story.step("A VM on node2 connects to an outside server through masquerade")
        self.upstream_sends_to("node1")
        # So that vm2 knows its router's MAC address, and only the connection counts.
        self.lab.exec("vm2", f"ping -c 1 -W 2 {ROUTER}")
        before = {host: self.counters(host) for host in HOSTS}
        with (
            self.lab.capture("node2", expression="proto gre") as capture,
            self.lab.capture("upstream", interface="gw1") as outside,
        ):
            session = self.open("vm2", SERVER)
            exchange = session.exchange()
            time.sleep(0.3)
        self.outbound = session
        story.check("the connection works", session.is_open and exchange.ok)
        since = {host: self.counters(host) - before[host] for host in HOSTS}
        story.check(
            "node2's agent decides once for it, by the first packet",
            since["node2"]["connections made"] == 1
            and not since["node1"]["flows installed"],
            "packet-ins: " + by_host(since, "packet-ins"),
        )
        packets = self.gre(capture)
        sent = [
            packet
            for packet in packets
            if packet.source == self.underlay("node2") and is_ip(packet.inner)
        ]
        self.show_first_packets(sent)
        state = [p for p in sent if p.key == FLOW_STATE_KEY]
        data = [p for p in sent if p.key != FLOW_STATE_KEY]
        first_data = data[0].time if data else 0.0
        ahead = [p for p in state if p.time <= first_data]
        to = sorted({self.host_at(p.destination) for p in ahead})
        story.check(
            "flow state left before the data, to exactly the interested set",
            tuple(to) == INTERESTED,
            ", ".join(to),
        )
        story.check(
            "with the special tunnel key and the configured DSCP",
            bool(ahead) and all(p.tos == EF_TOS for p in ahead),
            f"key {FLOW_STATE_KEY:#x}, outer tos {EF_TOS:#x}",
        )
        self.nat_port = self.seen_nat_port(outside)
        self.check_records(session.source_port)

    def show_first_packets(self, packets: list[GrePacket]) -> None:
        """Show the first packets that node2 put on the underlay."""
        start = packets[0].time if packets else 0.0
        for packet in packets[:4]:
            kind = "flow state" if packet.key == FLOW_STATE_KEY else "data"
            self.story.tell(
                f"+{(packet.time - start) * 1000:6.2f} ms  node2 -> "
                f"{self.host_at(packet.destination)}  GRE key {packet.key:#08x}  "
                f"tos {packet.tos:#04x}  {kind}, {len(packet.inner)} bytes"
            )

    def seen_nat_port(self, capture: Any) -> int:
        """Check how the SYN looks outside; return its source port."""
        for frame in capture.frames():
            try:
                headers = decode(frame.data).headers
            except DecodeError:
                continue
            if headers.l4_dst == PORT:
                source = format_ip(headers.ip_src)
                self.story.check(
                    "outside it comes from the NAT address",
                    source == NAT,
                    f"{source}:{headers.l4_src}, TTL {headers.ip_ttl}",
                )
                return headers.l4_src
        self.story.check("outside it was seen", False)
        return 0

    def check_records(self, source_port: int) -> None:
        """Check that the same record is at every member, and nowhere else."""
        found = {host: self.records(host, source_port) for host in HOSTS}
        holders = [host for host, records in found.items() if records]
        ids = {record["id"] for records in found.values() for record in records}
        self.story.check(
            "its record is at the ingress host and the interested set only",
            holders == ["node1", "node2", "node4"] and len(ids) == 1,
            f"record {', '.join(sorted(ids))} at {', '.join(holders)}",
        )
        for record in found["node4"][:1]:
            way = record["translations"][0]
            self.story.tell(
                f"at node4: {tuple_text(record['original'])}, "
                f"{way['device']} translates {way['kind']} to "
                f"{way['address']}:{way['port']}, "
                f"owner {record['owner']}, {record['phase']}"
            )

    def asymmetric_return(self) -> None:
        """The return way moves to the other gateway."""
        story = self.story
        story.step("Asymmetric return: upstream answers through the other gateway")
        assert self.outbound is not None
        self.upstream_sends_to("node4")
        with self.lab.capture("upstream", interface="gw1") as first:
            again = [self.outbound.exchange() for _ in range(3)]
            fresh = self.open("vm2", SERVER)
            new = fresh.exchange()
            pushed = fresh.exchange(push=True)
            fresh.close()
            time.sleep(0.2)
        story.check(
            "the established connection goes on",
            all(e.ok for e in again),
            _times(again),
        )
        story.check("a new one works from its first packet", new.ok, new.detail)
        story.check("the server may speak first", pushed.ok, pushed.detail)
        returned = sum(self.is_return(frame.data) for frame in first.frames())
        story.check("no return packet touched node1", returned == 0, f"{returned} seen")

    def north_to_south(self) -> None:
        """An outside client's packets move to the other gateway in mid-connection."""
        story = self.story
        story.step("North to south: an outside client, DNAT, and a gateway change")
        self.upstream_sends_to("node1")
        session = self.open("server", VIP)
        one = session.exchange()
        story.check(f"the client reaches vm3 at {VIP} by node1", one.ok, one.detail)
        before = self.records("node1", session.source_port)
        self.upstream_sends_to("node4")
        two = [session.exchange() for _ in range(3)]
        story.check(
            "after the move to node4 the same connection goes on",
            all(e.ok for e in two),
            _times(two),
        )
        after = self.records("node4", session.source_port)
        same = bool(before and after) and all(
            before[0][key] == after[0][key] for key in ("id", "translations")
        )
        seen = f"record {after[0]['id']}" if after else "no record at node4"
        story.check("same record, same translation at node4", same, seen)
        self.inbound = session

    def amnesiac(self) -> None:
        """A gateway's agent is killed and comes back without memory."""
        story = self.story
        story.step("Amnesiac node: node4's agent is killed and forgets everything")
        assert self.inbound is not None
        assert self.outbound is not None
        sessions = (self.outbound, self.inbound)
        self.lab.kill("node4", "agent")
        dead = [session.exchange() for session in sessions]
        story.check("both connections go on while it is dead", all(e.ok for e in dead))
        for path in self.lab.host("node4").directory.glob("journal.db*"):
            path.unlink()
        story.tell("node4's journal is deleted, its agent started again")
        self.lab.restore("node4", "agent")
        self.wait(lambda: bool(self.records("node4", self.inbound_port())))
        stats = self.lab.agent_query("node4", "stats")
        story.check(
            "its peers gave its records back",
            bool(self.records("node4", self.inbound_port())),
            f"{stats['records']} records, {stats['uptime_s']:.1f} s after its start",
        )
        removed = self.forget_flows("node4")
        alive = [session.exchange() for session in sessions]
        story.check(
            "they go on even when its flows are deleted too",
            all(e.ok for e in alive),
            f"{removed} {'flow' if removed == 1 else 'flows'} deleted; {_times(alive)}",
        )

    def inbound_port(self) -> int:
        """Return the outside client's port."""
        assert self.inbound is not None
        return self.inbound.source_port

    def filter(self) -> None:
        """Outside cannot open what the filter does not let in."""
        story = self.story
        story.step("Stateful filter: only what is allowed, and replies to one's own")
        refused = self.open("server", VIP, port=PORT + 1)
        story.check("outside cannot open another port of vm3", not refused.is_open)
        refused.close()
        outbound = self.open("vm3", SERVER)
        reply = outbound.exchange()
        story.check("replies to vm3's own connection pass", reply.ok, reply.detail)
        outbound.close()
        drops = self.counters("node4")["filtered"]
        packets = "1 packet" if drops == 1 else f"{drops} packets"
        story.tell(f"node4 counts {packets} that the filter dropped")

    def gateway_dies(self) -> None:
        """The gateway that carries everything dies, and comes back."""
        story = self.story
        story.step("A gateway dies: node1 carries everything, and is killed whole")
        assert self.outbound is not None
        assert self.inbound is not None
        sessions = (self.outbound, self.inbound)
        self.upstream_sends_to("node1")
        before = [session.exchange() for session in sessions]
        story.check("both connections pass by node1", all(e.ok for e in before))
        # Upstream's own routing is not ours: it turns away in the same moment.
        turn = threading.Thread(target=self.upstream_sends_to, args=("node4",))
        turn.start()
        self.lab.kill("node1", "host")
        turn.join()
        alive = [session.exchange() for session in sessions]
        story.check("both go on by node4", all(e.ok for e in alive), _times(alive))
        pushed = self.outbound.exchange(push=True)
        story.check("the server may still speak first", pushed.ok, pushed.detail)
        fresh = self.open("vm2", SERVER)
        story.check("new connections work", fresh.exchange().ok)
        self.lab.restore("node1", "host")
        self.lab.wait_ready()
        self.upstream_sends_to("node1")
        again = [session.exchange() for session in (*sessions, fresh)]
        story.check(
            "node1 comes back and carries all three again",
            all(e.ok for e in again),
            _times(again),
        )
        fresh.close()


def _times(exchanges: Iterable[Exchange]) -> str:
    return ", ".join(e.detail or f"{e.milliseconds:.1f} ms" for e in exchanges)


def main(argv: Optional[Iterable[str]] = None) -> int:
    """Run the demo; return 0 when every check held."""
    parser = argparse.ArgumentParser(
        prog="tools/demo",
        description="Show midoryu's main job on four hosts in network namespaces: "
        "a NAT connection across hosts, and its flow state where it must be.",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the lab up, and say what to try"
    )
    arguments = parser.parse_args(None if argv is None else list(argv))
    story = Story(steps=7)
    start = time.monotonic()
    story.step("Four hosts, each with its own Open vSwitch and agent")
    lab = Lab(_LAB, name="lab" if arguments.keep else "demo", report=story.tell)
    try:
        lab.up()
        Demo(lab, story).run()
    except LabError as error:
        story.check("the lab works", False, error)
    finally:
        if not arguments.keep or story.failed:
            lab.down()
    taken = time.monotonic() - start
    if story.failed:
        print(f"\ndemo: FAILED after {taken:.0f} s:")
        for claim in story.failed:
            print(f"  {claim}")
        return 1
    print(f"\ndemo: every check held, {taken:.0f} s")
    if arguments.keep:
        print(TRY_NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
