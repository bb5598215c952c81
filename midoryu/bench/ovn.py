# SPDX-License-Identifier: Apache-2.0
"""OVN on a lab's hosts, with the topology of `net_world`: a peer to compare with.

Needs Debian's ovn-central and ovn-host. Daemons run in the lab's namespaces, so that
taking the lab down ends them.

Source: ovn-nb(5), ovn-nbctl(8), ovn-controller(8).
"""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path
from typing import Final

from midoryu.bench import net_world as world
from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab
from midoryu.lab.shell import inside, run

_SCHEMAS: Final = Path("/usr/share/ovn")
_PROGRAMS: Final = ("ovn-northd", "ovn-nbctl", "ovn-controller")
_LIMIT_S: Final = 60.0


def is_installed() -> bool:
    """Tell whether OVN's programs are there."""
    return (
        all(map(shutil.which, _PROGRAMS)) and (_SCHEMAS / "ovn-nb.ovsschema").exists()
    )


class Ovn:
    """OVN's daemons and databases on a lab that runs without agents."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._directory = lab.store.directory / "ovn"
        self._directory.mkdir(exist_ok=True)
        self._nb = f"unix:{self._directory}/nb.sock"
        self._sb = f"unix:{self._directory}/sb.sock"

    def start(self) -> None:
        """Start everything, make the topology, wait until every vport is claimed.

        Raises:
            LabError: something does not start, or is not claimed in time.
        """
        for name in ("nb", "sb"):
            database = self._directory / f"{name}.db"
            run(["ovsdb-tool", "create", str(database),
                 str(_SCHEMAS / f"ovn-{name}.ovsschema")])  # fmt: skip
            remote = f"--remote=punix:{self._directory}/{name}.sock"
            self._daemon("nsdb", "ovsdb-server", name, str(database), remote)
        databases = [f"--ovnnb-db={self._nb}", f"--ovnsb-db={self._sb}"]
        self._daemon("nsdb", "ovn-northd", "northd", *databases)
        for name in world.HOSTS:
            self._start_host(name)
        self._make_topology()
        self._wait()

    def _daemon(self, node: str, program: str, name: str, *arguments: str) -> None:
        base = self._directory / name
        command = [program, *arguments, f"--pidfile={base}.pid",
                   f"--log-file={base}.log", "-vconsole:off", "-vsyslog:off",
                   "--no-chdir", "--detach"]  # fmt: skip
        if program != "ovn-controller":
            command.append(f"--unixctl={base}.ctl")
        names = ("OVN_RUNDIR", "OVS_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR")
        rundir = self._directory
        if node != "nsdb":
            rundir = self._lab.host(node).directory / "ovs"
        environment = dict.fromkeys(names, str(rundir))
        namespace = self._lab.namespace(node)
        run(inside(namespace, command), env=environment)

    def _start_host(self, name: str) -> None:
        host = self._lab.host(name)
        settings = {
            "system-id": name,
            "ovn-remote": self._sb,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": host.host.ip,
            "ovn-bridge-datapath-type": "netdev",
        }
        if name in world.GATEWAYS:
            settings["ovn-bridge-mappings"] = "public:br-ex"
            uplinks = [p.device for p in self._lab.spec.plugs(name) if p.uplink]
            host.ovs_vsctl("add-br", "br-ex", "--", "set", "bridge", "br-ex",
                           "datapath_type=netdev")  # fmt: skip
            for device in uplinks:
                host.ovs_vsctl("del-port", "br-int", device, "--", "add-port",
                               "br-ex", device)  # fmt: skip
        pairs = [f'external_ids:{key}="{value}"' for key, value in settings.items()]
        host.ovs_vsctl("set", "Open_vSwitch", ".", *pairs)
        self._daemon(name, "ovn-controller", f"controller-{name}", host.ovsdb)

    def _make_topology(self) -> None:
        words: list[str] = ["lr-add provider"]
        for network, prefix in world.NETWORKS.items():
            mac, port = world.ROUTER_MACS[network], f"lr-{network}"
            words += [
                f"ls-add {network}",
                f"lrp-add provider {port} {mac} {prefix}.1/24",
                f"lsp-add {network} {network}-lr",
                f"lsp-set-type {network}-lr router",
                f"lsp-set-addresses {network}-lr router",
                f"lsp-set-options {network}-lr router-port={port}",
            ]
        for name, (network, _, _) in world.VMS.items():
            port = f"{network}/{name}"
            address = shlex.quote(f"{world.vm_mac(name)} {world.vm_ip(name)}")
            words += [
                f"lsp-add {network} {port}",
                f"lsp-set-addresses {port} {address}",
            ]
            if name != "a":
                match = shlex.quote(f'outport == "{port}" && ip4')
                drop = shlex.quote(f'outport == "{port}" && ip')
                words += [
                    f"acl-add {network} to-lport 1000 {match} allow-related",
                    f"acl-add {network} to-lport 900 {drop} drop",
                ]
        words += [
            "ls-add public",
            f"lrp-add provider lr-public {world.UPLINK_MACS['g1']} "
            f"{world.UPLINK_IPS['g1']}/24",
            "lsp-add public public-lr",
            "lsp-set-type public-lr router",
            "lsp-set-addresses public-lr router",
            "lsp-set-options public-lr router-port=lr-public",
            "lsp-add public public-net",
            "lsp-set-type public-net localnet",
            "lsp-set-addresses public-net unknown",
            "lsp-set-options public-net network_name=public",
            "lrp-set-gateway-chassis lr-public g1 20",
            "lrp-set-gateway-chassis lr-public g2 10",
            f"lr-nat-add provider snat {world.MASQUERADE} 10.0.0.0/16",
            # A gateway is dead after 3 beats of 50 ms, as in midoryu.
            "set NB_Global . options:bfd-min-rx=50 options:bfd-min-tx=50 "
            "options:bfd-mult=3",
        ]
        arguments = shlex.split(" -- ".join(words))
        run(["ovn-nbctl", f"--db={self._nb}", *arguments])

    def _wait(self) -> None:
        wanted = len(world.VMS) + 1
        deadline = time.monotonic() + _LIMIT_S
        while True:
            command = ["ovn-sbctl", f"--db={self._sb}", "--bare", "--columns=_uuid",
                       "find", "Port_Binding", "chassis!=[]"]  # fmt: skip
            if len(run(command).stdout.split()) >= wanted:
                break
            if time.monotonic() > deadline:
                raise LabError(f"OVN did not claim {wanted} ports within {_LIMIT_S} s")
            time.sleep(0.2)
        run(["ovn-nbctl", f"--db={self._nb}", "--wait=hv", "--timeout=60", "sync"],
            timeout_s=70)  # fmt: skip

    def kill_gateway(self) -> None:
        """Kill everything on the active gateway, without a word to the others."""
        pid = int((self._directory / "controller-g1.pid").read_text())
        run(["kill", "-9", str(pid)])
        self._lab.kill("g1", "host")
