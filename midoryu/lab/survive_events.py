# SPDX-License-Identifier: Apache-2.0
"""The events of the failure matrix, each a function of the running sessions.

`survive` and the functional tests run them; each leaves the lab whole again.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from midoryu.lab import process, survive_hard, wire
from midoryu.lab.error import LabError
from midoryu.lab.shell import inside, run
from midoryu.lab.survive import SERVER, Row, Survival, stream
from midoryu.lab.survive_move import Migration, wait
from midoryu.openflow.pipeline import ECHO_MAC

Event = Callable[[Survival, str], Row]
_AGENT_HOSTS = {"node2": "ingress host", "node1": "gateway", "node3": "backend host"}
_ENDS = {"term": "SIGTERM", "kill": "SIGKILL", "forget": "SIGKILL, no journal"}
_DOWN_S = 1.0
_ECHO = ECHO_MAC.to_bytes(6, "big")


def restart_agent(survival: Survival, host: str, how: str) -> None:
    """End a host's agent (`term`, `kill`, `forget`: kill and no journal); start it."""
    node = survival.lab.host(host)
    if how == "term":
        pid = process.read_pid(node.directory / "agent.pid")
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        wait(lambda: not node.is_running("agent"), 10.0, f"{host}: SIGTERM ignored")
    else:
        survival.lab.kill(host, "agent")
    if how == "forget":
        for path in node.directory.glob("journal.db*"):
            path.unlink()
    time.sleep(_DOWN_S)
    survival.lab.restore(host, "agent")
    survival.lab.wait_ready()


def agent_event(host: str, how: str) -> Event:
    """Return the event of one agent's restart."""

    def run_it(survival: Survival, name: str) -> Row:
        return survival.measure(name, lambda: restart_agent(survival, host, how))

    return run_it


def restart_loop(survival: Survival, name: str) -> Row:
    """Restart the gateway's agent five times."""

    def loop() -> None:
        for _ in range(5):
            survival.lab.kill("node1", "agent")
            survival.lab.restore("node1", "agent")
            survival.lab.wait_ready()

    return survival.measure(name, loop)


def ovs_event(host: str) -> Event:
    """Return the event of ovs-vswitchd's death and return."""

    def restart(survival: Survival) -> str:
        node = survival.lab.host(host)
        pid = process.read_pid(node.directory / "ovs" / "ovs-vswitchd.pid")
        process.end(pid, node.namespace)
        start = time.monotonic()
        node.start_ovs()
        return f"down {(time.monotonic() - start) * 1000:.0f} ms"

    def run_it(survival: Survival, name: str) -> Row:
        return survival.measure(name, lambda: restart(survival), settle_s=5.0)

    return run_it


def gateway_dies(part: str) -> Event:
    """Return the event of the outbound gateway's death; upstream follows at once."""

    def die(survival: Survival) -> None:
        lab = survival.lab
        router = threading.Thread(target=survival.upstream_sends_to, args=("node4",))
        router.start()
        if part == "uplink":
            wire.set_devices(lab.store, "node1", [_uplink(survival)], "down")
        else:
            lab.kill("node1", part)
        router.join()

    def run_it(survival: Survival, name: str) -> Row:
        return survival.measure(name, lambda: die(survival), settle_s=4.0)

    return run_it


def gateway_returns(part: str) -> Event:
    """Return the event of its coming back, upstream going back to it last."""

    def come_back(survival: Survival) -> None:
        lab = survival.lab
        if part == "uplink":
            wire.set_devices(lab.store, "node1", [_uplink(survival)], "up")
        else:
            lab.restore("node1", part)
        lab.wait_ready()
        time.sleep(1.5)
        survival.upstream_sends_to("node1")

    def run_it(survival: Survival, name: str) -> Row:
        return survival.measure(name, lambda: come_back(survival), settle_s=3.0)

    return run_it


def _uplink(survival: Survival) -> str:
    plugs = survival.lab.spec.plugs("node1")
    return next(plug.device for plug in plugs if plug.uplink)


def return_moves(survival: Survival, name: str) -> Row:
    """Upstream answers by the other gateway, and by the first one again."""

    def move() -> None:
        survival.upstream_sends_to("node4")
        time.sleep(1.5)
        survival.upstream_sends_to("node1")

    return survival.measure(name, move)


def nsdb_away(survival: Survival, name: str) -> Row:
    """The NSDB is dead for 20 s; new connections go on in the meantime."""
    return survival.measure(name, lambda: _nsdb_gap(survival, 20.0, forget=False))


def nsdb_forgets(survival: Survival, name: str) -> Row:
    """The NSDB comes back with an empty file; the topology is applied again."""
    return survival.measure(
        name, lambda: _nsdb_gap(survival, 3.0, forget=True), settle_s=5.0
    )


def _nsdb_gap(survival: Survival, seconds: float, *, forget: bool) -> str:
    lab = survival.lab
    lab.kill("nsdb")
    opened = open_new(survival, 10, "outage")
    time.sleep(seconds / 2)
    opened += open_new(survival, 10, "late outage")
    time.sleep(seconds / 2)
    if forget:
        (lab.nsdb.directory / "nsdb.db").unlink()
    lab.restore("nsdb")
    if forget:
        lab.ctl("apply", "-f", str(lab.store.directory / "topology.yaml"))
    time.sleep(3.0)
    after = open_new(survival, 10, "after")
    return f"{opened}/20 new connections in it, {after}/10 after it"


def open_new(survival: Survival, count: int, name: str) -> int:
    """Open connections from vm6 to the server; return how many could be opened."""
    client = survival.client("vm6")
    streams = [
        stream(f"{name} {n}", "tcp", SERVER, interval_ms=200) for n in range(count)
    ]
    reports = client.open(streams)
    opened = sum(not one["error"] for one in reports.values())
    client.close(reports)
    return opened


def loss_on_state(survival: Survival, name: str) -> Row:
    """Fifty connections open and return by the other gateway; 30 % of state is lost."""
    lab = survival.lab

    def lose() -> str:
        # Each state packet to or from the host that makes the records.
        lab.loss("node2", 30, state_only=True)
        survival.upstream_sends_to("node4")
        client = survival.client("vm2")
        try:
            names = [f"lossy {n}" for n in range(50)]
            streams = [stream(n, "tcp", SERVER, interval_ms=100) for n in names]
            opened = client.open(streams)
            client.begin()
            time.sleep(2.0)
            reports = client.report()
            alive = sum(r["alive"] for r in reports.values())
            gap = max(r["gap_ms"] for r in reports.values())
            refused = sum(bool(r["error"]) for r in opened.values())
            client.close(names)
        finally:
            lab.loss("node2", 0)
        time.sleep(1.0)
        survival.upstream_sends_to("node1")
        slow = sorted(r["open_ms"] for r in opened.values())
        return (
            f"{alive}/50 new ones live, {refused} refused, gap {gap} ms, opened in "
            f"{slow[25]} ms (median), {slow[-1]} ms (longest)"
        )

    row = survival.measure(name, lose)
    if not row.note.startswith("50/50"):
        row.dead.append(row.note)
    return row


_INJECT = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("underlay", 0))
for line in sys.stdin:
    raw.send(bytes.fromhex(line.strip()))
"""


def forged_state(survival: Survival, name: str) -> Row:
    """A stranger replays, cuts, bends and invents state packets on the underlay."""
    lab = survival.lab

    def forge() -> str:
        mark = "ip[1] = 0xb8 and proto gre and src host " + lab.host("node2").host.ip
        with lab.capture("node2", expression=mark) as capture:
            open_new(survival, 3, "forged")
            time.sleep(0.5)
        # Echoes go back to where they seem to come from: nobody else would count them.
        seen = [one.data for one in capture.frames() if _ECHO not in one.data]
        if not seen:
            raise LabError("no state packet was seen")
        bad: list[bytes] = list(seen)
        for frame in seen:
            for at in range(66, len(frame), 7):
                bad.append(frame[:at] + bytes([frame[at] ^ 0x41]) + frame[at + 1 :])
            bad += [frame[:at] for at in range(50, len(frame), 9)]
            bad.append(frame + os.urandom(300))
            bad.append(frame[:84] + os.urandom(len(frame)))
        before = _refusals(survival)
        # From there, so that the switch between the hosts learns no wrong MAC address.
        command = inside(lab.namespace("node2"), ["python3", "-c", _INJECT])
        run(command, stdin="\n".join(frame.hex() for frame in bad) + "\n")
        time.sleep(1.0)
        counted = _refusals(survival) - before
        return f"{len(bad)} sent, {counted} refused and counted"

    return survival.measure(name, forge)


def _refusals(survival: Survival) -> int:
    found = 0
    for host in ("node1", "node3", "node4"):
        stats: dict[str, Any] = survival.lab.agent_query(host, "stats")
        found += sum(stats["state_refused"].values())
    return found


def member_joins(survival: Survival, name: str) -> Row:
    """Gateway node4 joins the set in mid-connection; packets then return by it."""
    lab = survival.lab
    lab.ctl("ingress-set", "remove", "uplinks", "provider/uplink4")
    time.sleep(0.5)
    survival.reopen_all()

    def join() -> None:
        lab.ctl("ingress-set", "add", "uplinks", "provider/uplink4")
        time.sleep(0.5)
        survival.upstream_sends_to("node4")

    return survival.measure(name, join)


def member_leaves(survival: Survival, name: str) -> Row:
    """The outbound gateway leaves the set in mid-connection, and joins again."""
    lab = survival.lab
    survival.upstream_sends_to("node4")

    def leave() -> None:
        lab.ctl("ingress-set", "remove", "uplinks", "provider/uplink1")
        time.sleep(1.5)
        lab.ctl("ingress-set", "add", "uplinks", "provider/uplink1")
        time.sleep(0.5)
        survival.upstream_sends_to("node1")

    return survival.measure(name, leave)


def vport_moves(origin: str, target: str) -> Event:
    """Return the event of vm2's live migration."""

    def run_it(survival: Survival, name: str) -> Row:
        move = Migration(survival, origin, target)
        return survival.measure(name, move.run, settle_s=4.0)

    return run_it


def with_download(event: Event) -> Event:
    """Return an event that happens during a download at full speed, to vm6."""

    def run_it(survival: Survival, name: str) -> Row:
        client = survival.client("vm6")
        client.open([stream("download", "tcp", SERVER, kind="bulk")])
        survival.clients["download"] = client
        try:
            row = event(survival, name)
        finally:
            del survival.clients["download"]
            report = client.report()["download"]
            client.close(["download"])
        row.note += f" download {report['mbps']} Mbit/s, gap {report['gap_ms']} ms"
        return row

    return run_it


def hard(
    what: Callable[..., object], *arguments: object, settle_s: float = 4.0
) -> Event:
    """Return an event of `survive_hard`."""

    def run_it(survival: Survival, name: str) -> Row:
        return survival.measure(
            name, lambda: what(survival, *arguments), settle_s=settle_s
        )

    return run_it


def pool_changes(survival: Survival, name: str) -> Row:
    """The balanced pool loses a member in mid-connection; then the gateway dies."""
    old, new = "[10.0.1.13, 10.0.1.15]", "[10.0.1.13]"

    def change() -> None:
        survive_hard.change_pool(survival, old, new)
        time.sleep(1.0)
        survival.lab.kill("node1", "host")
        survival.upstream_sends_to("node4")

    try:
        return survival.measure(name, change, settle_s=4.0)
    finally:
        survive_hard.return_node1(survival)
        survive_hard.change_pool(survival, new, old)


EVENTS: dict[str, Event] = {"nothing": lambda s, n: s.measure(n, lambda: None)}
for _host, _role in _AGENT_HOSTS.items():
    for _how, _word in _ENDS.items():
        EVENTS[f"agent {_word}: {_role}"] = agent_event(_host, _how)
EVENTS["agent restarted five times: gateway"] = restart_loop
EVENTS["return moves to node4 and back"] = return_moves
for _part in ("host", "link", "uplink"):
    EVENTS[f"gateway {_part} dies"] = gateway_dies(_part)
    EVENTS[f"gateway {_part} returns"] = gateway_returns(_part)
EVENTS["nothing but a download"] = with_download(EVENTS["nothing"])
EVENTS["gateway host dies in a download"] = with_download(gateway_dies("host"))
EVENTS["gateway host returns in a download"] = with_download(gateway_returns("host"))
EVENTS["agent SIGKILL in a download"] = with_download(agent_event("node1", "forget"))
EVENTS["vswitchd dies: gateway"] = ovs_event("node1")
EVENTS["vswitchd dies: ingress host"] = ovs_event("node2")
EVENTS["30 % loss on state packets"] = loss_on_state
EVENTS["forged state packets"] = forged_state
EVENTS["member joins the ingress set"] = member_joins
EVENTS["member leaves the ingress set"] = member_leaves
EVENTS["vport moves to node3"] = vport_moves("node2", "node3")
EVENTS["vport moves back"] = vport_moves("node3", "node2")
EVENTS["NSDB dead for 20 s"] = nsdb_away
EVENTS["NSDB comes back empty"] = nsdb_forgets
EVENTS["a member joins, then the old gateway dies"] = hard(survive_hard.join_then_die)
EVENTS["the old gateway returns"] = hard(survive_hard.return_node1)
EVENTS["pool changes, then the gateway dies"] = pool_changes
for _host in ("node1", "node2"):
    _role = _AGENT_HOSTS[_host]
    EVENTS[f"every process dies in turn: {_role}"] = hard(
        survive_hard.kill_each, _host, settle_s=6.0
    )
    EVENTS[f"full disk under the journal: {_role}"] = hard(
        survive_hard.full_disk, _host, open_new
    )
    EVENTS[f"clock jumps by an hour: {_role}"] = hard(
        survive_hard.clock_jumps, _host, open_new
    )
# Long enough for TCP, which doubles its wait, to try again.
for _both, _more in ((False, ""), (True, ", both restarted")):
    _away = functools.partial(survive_hard.ovsdb_away, both=_both)
    EVENTS[f"ovsdb-server away for 6 s{_more}"] = hard(
        _away, "node2", 6.0, settle_s=8.0
    )
EVENTS["nothing reaches the gateway"] = hard(survive_hard.deaf_gateway, open_new)
EVENTS["another masquerade address"] = hard(survive_hard.address_changes, open_new)
EVENTS["key of flow state replaced"] = hard(survive_hard.keys_replaced, open_new)
