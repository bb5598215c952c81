# SPDX-License-Identifier: Apache-2.0
"""Live migration in the lab: a VM goes on at another host, with its connections.

`survive_events` has it as an event of the failure matrix.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from midoryu.lab.error import LabError
from midoryu.lab.shell import inside, run
from midoryu.lab.survive import Survival


def wait(holds: Callable[[], bool], timeout_s: float, problem: str) -> None:
    """Wait until something holds.

    Raises:
        LabError: not in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if holds():
                return
        except LabError:
            # The agent is still starting.
            pass
        if time.monotonic() > deadline:
            raise LabError(problem)
        time.sleep(0.05)


class Migration:
    """Moves vm2: bound on both hosts, then its binding, then the machine itself.

    A namespace cannot hop between hosts. So vm2 has an interface with the same MAC at
    each, and the one that holds its address stands for where it runs.
    """

    _SPARE = "spare"

    def __init__(self, survival: Survival, origin: str, target: str) -> None:
        self.lab = survival.lab
        self.origin, self.target = origin, target
        self.plug = next(p for p in _all_plugs(survival) if p.vport == "web/vm2")
        self._make_spare()

    def run(self) -> str:
        """Move; return what each step took."""
        lab, new = self.lab, self.lab.host(self.target)
        device = self._device(self.target)
        start = time.monotonic()
        new.ovs_vsctl("set", "interface", device, self._iface_id())
        topology = lab.store.directory / "topology.yaml"
        before, vm2, after = topology.read_text().partition("vm2: {")
        topology.write_text(before + vm2 + after.replace(self.origin, self.target, 1))
        lab.ctl("apply", "-f", str(topology))
        wait(self._is_up, 10.0, f"web/vm2 does not come up at {self.target}")
        up = time.monotonic()
        self._switch()
        switched = time.monotonic()
        old = self._device(self.origin)
        lab.host(self.origin).ovs_vsctl(
            "remove", "interface", old, "external_ids", "iface-id"
        )
        return (
            f"binding {(up - start) * 1000:.0f} ms, "
            f"machine {(switched - up) * 1000:.0f} ms"
        )

    def _is_up(self) -> bool:
        vports = self.lab.agent_query(self.target, "vports")
        return any(v["vport"] == "web/vm2" and v["ofport"] > 0 for v in vports)

    def _device(self, host: str) -> str:
        return self.plug.device if host == "node2" else self._SPARE

    def _iface_id(self) -> str:
        return f'external_ids:iface-id="{self.plug.iface_id}"'

    def _make_spare(self) -> None:
        lab, device = self.lab, self._SPARE
        host, vm = lab.host("node3"), lab.namespace("vm2")
        if device in host.ovs_vsctl("list-ports", "br-int").split():
            return
        mac = lab.exec("vm2", "cat /sys/class/net/eth0/address").stdout.strip()
        peer = f"type veth peer name eth1 address {mac} netns {vm}"
        lab.exec("node3", f"ip link add {device} {peer}")
        for node, name in (("node3", device), ("vm2", "eth1")):
            lab.exec(node, f"ip link set dev {name} up")
            lab.exec(node, f"ethtool -K {name} tx off")
        host.ovs_vsctl("add-port", "br-int", device)
        time.sleep(1.5)

    def _switch(self) -> None:
        """Let vm2 run at the other host; a machine that moved announces itself."""
        old, new = ("eth0", "eth1") if self.target == "node3" else ("eth1", "eth0")
        address = next(p for p in self.lab.spec.machines if p.name == "vm2")
        ip = address.interfaces[0].ips[0]
        lines = [
            f"addr del {ip} dev {old}",
            f"addr add {ip} dev {new}",
            "route add default via 10.0.1.1",
        ]
        command = inside(self.lab.namespace("vm2"), ["ip", "-batch", "-"])
        run(command, stdin="\n".join(lines) + "\n")


def _all_plugs(survival: Survival) -> list[Any]:
    spec = survival.lab.spec
    return [plug for host in spec.hosts for plug in spec.plugs(host.name)]
