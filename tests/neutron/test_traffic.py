# SPDX-License-Identifier: Apache-2.0
"""A cloud on the lab's hosts: Neutron's API at one end, packets at the other."""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import echo, pings
from tests.functional.lab_tools import wait as holds
from tests.neutron.cloud import Cloud, running, wait

PLUG = Path(__file__).with_name("plug.py")
SERVE = "exec python3 -m midoryu.lab.session serve 7007"
# The same addresses in both tenants, and the same MAC in none.
MACS = {
    "a1": "02:00:00:00:0a:01",
    "a2": "02:00:00:00:0a:02",
    "a3": "02:00:00:00:0a:03",
    "b1": "02:00:00:00:0b:01",
}
HOSTS = {"a1": "n1", "a2": "n2", "a3": "n2", "b1": "n2"}
ADDRESSES = {"a1": "10.0.0.11", "a2": "10.0.0.12", "a3": "10.0.1.13", "b1": "10.0.0.12"}
OUTSIDE = "203.0.113.1"


def lab_file(metadata: str = "") -> dict[str, Any]:
    """Describe hosts, and machines that Neutron has not heard of yet.

    `metadata` names the configuration of a metadata proxy at n1, "" for none.
    """
    vms: dict[str, Any] = {
        name: {
            "host": HOSTS[name],
            "iface_id": f"waiting-{name}",
            "mac": MACS[name],
            "ip": f"{address}/24",
            "gateway": f"{address.rpartition('.')[0]}.1",
            "mtu": 1458,
            "run": [SERVE],
        }
        for name, address in ADDRESSES.items()
    }
    vms["outside"] = {
        "host": "g1",
        "iface_id": "public@g1",
        "ip": f"{OUTSIDE}/24",
        "run": [SERVE],
    }
    own = {"agent": {"agent": {"metadata_config": metadata}}} if metadata else {}
    return {"hosts": {"n1": own, "n2": {}, "g1": {}}, "vms": vms}


_NOVA = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}
        text = "".join(f"{k}: {v}\\n" for k, v in said.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
http.server.HTTPServer(("127.0.0.1", 8775), Handler).serve_forever()
"""


class World:
    """A lab, a cloud on it, and what both tenants have."""

    def __init__(self, lab: Lab, cloud: Cloud) -> None:
        self.lab = lab
        self.cloud = cloud
        self.admin = cloud.admin()
        self.tenants = {name: cloud.client(f"tenant-{name}") for name in "ab"}
        self.ports: dict[str, Any] = {}
        self.networks: dict[str, Any] = {}

    def build(self) -> None:
        """Make what a first user of a cloud makes."""
        public = self.admin.create_network(
            name="public",
            is_router_external=True,
            provider_network_type="flat",
            provider_physical_network="public",
        )
        self.admin.create_subnet(
            network_id=public.id,
            ip_version=4,
            cidr="203.0.113.0/24",
            gateway_ip=OUTSIDE,
            enable_dhcp=False,
        )
        self.networks["public"] = public
        for tenant, client in self.tenants.items():
            router = client.create_router(
                name="router", external_gateway_info={"network_id": public.id}
            )
            self.networks[f"router-{tenant}"] = router
            for number in (0, 1):
                network = client.create_network(name=f"{tenant}{number}")
                subnet = client.create_subnet(
                    network_id=network.id, ip_version=4, cidr=f"10.0.{number}.0/24"
                )
                client.add_interface_to_router(router.id, subnet_id=subnet.id)
                self.networks[f"{tenant}{number}"] = network
        wait(lambda: len(list(self.admin.agents())) == 3)
        for host in self.lab.hosts.values():
            target = f"--target={host.directory}/ovs/ovsdb-server.ctl"
            remote = "ptcp:6640:127.0.0.1"  # os-vif's default
            self.lab.exec(
                host.name, ["ovs-appctl", target, "ovsdb-server/add-remote", remote]
            )
        for name in ADDRESSES:
            self.start(name)

    def start(self, name: str) -> None:
        """Make an instance's port, and plug it as Nova would."""
        address = ADDRESSES[name]
        network = self.networks[f"{name[0]}{address.split('.')[2]}"]
        port = self.tenants[name[0]].create_port(
            network_id=network.id, fixed_ips=[{"ip_address": address}], name=name
        )
        port = self.admin.update_port(
            port.id,
            mac_address=MACS[name],
            binding_host_id=HOSTS[name],
            device_owner="compute:nova",
            device_id="3f9c3b1e-0000-4000-8000-0000000000" + MACS[name][-2:],
        )
        assert port.binding_vif_type == "ovs"
        self.ports[name] = port
        self.plug(name, HOSTS[name], self.device(name))

    def device(self, name: str) -> str:
        """Return the interface that the lab gave an instance on its host."""
        spec = self.lab.spec
        plugs = spec.plugs(HOSTS[name])
        return next(p.device for p in plugs if p.iface_id == f"waiting-{name}")

    def plug(self, name: str, host: str, device: str, verb: str = "plug") -> None:
        """Run os-vif on a host."""
        node, port = self.lab.host(host), self.ports[name]
        if verb == "plug":
            node.ovs_vsctl("--if-exists", "del-port", "br-int", device)
        arguments = [verb, device, port.id, MACS[name], port.network_id]
        command = [sys.executable, "-W", "ignore", str(PLUG), *arguments, "br-int"]
        self.lab.exec(host, command, timeout=60)

    def status(self, name: str) -> str:
        """Return a port's status as the API shows it."""
        return str(self.admin.get_port(self.ports[name].id).status)

    def group(self, tenant: str) -> Any:
        """Return a tenant's default security group."""
        groups = self.tenants[tenant].security_groups(name="default")
        return next(g for g in groups if g.project_id == f"tenant-{tenant}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("cloud")
    metadata = directory / "metadata.conf"
    metadata.write_text("[metadata]\nshared_secret = s3cret\n")
    with (
        Lab(lab_file(str(metadata)), name="ntraffic") as lab,
        running(directory, lab.nsdb.remote, gateways="public:g1") as cloud,
    ):
        found = World(lab, cloud)
        found.build()
        wait(lambda: all(found.status(n) == "ACTIVE" for n in ADDRESSES))
        yield found
        # Metadata proxies take their namespaces along when their agent goes.
        for host in lab.hosts:
            lab.kill(host, "agent")
        wait(lambda: not proxies_of(found))


def proxies_of(world: World) -> set[str]:
    """Return the namespaces of the metadata proxies of this cloud alone."""
    names = [f"neutron-{network.id}".encode() for network in world.networks.values()]
    own = {f"mrmeta-{hashlib.blake2s(n, digest_size=5).hexdigest()}" for n in names}
    listed = world.lab.exec("n1", "ip netns list", check=False).stdout
    return own & set(listed.split())


def test_ports_are_active_once_their_interface_is_there(world: World) -> None:
    assert [world.status(name) for name in ADDRESSES] == ["ACTIVE"] * 4


def test_agents_are_alive_in_the_api(world: World) -> None:
    agents = list(world.admin.agents())

    assert {agent.host for agent in agents} == {"n1", "n2", "g1"}
    assert all(agent.is_alive for agent in agents)


def test_one_network_carries_traffic_between_hosts(world: World) -> None:
    assert pings(world.lab, "a1", ADDRESSES["a2"]) == 3
    assert echo(world.lab, "a1", "tcp", ADDRESSES["a2"]) == "ok"


def test_router_carries_traffic_between_networks(world: World) -> None:
    assert pings(world.lab, "a1", ADDRESSES["a3"]) == 3


def test_tenants_with_the_same_addresses_do_not_meet(world: World) -> None:
    assert pings(world.lab, "b1", ADDRESSES["a1"], count=2) == 0
    with world.lab.capture("b1", expression="icmp") as capture:
        assert pings(world.lab, "a1", ADDRESSES["a2"]) == 3

    assert list(capture.frames()) == []


def test_instances_reach_outside_by_the_routers_address(world: World) -> None:
    with world.lab.capture("outside", expression="icmp") as capture:
        assert pings(world.lab, "a1", OUTSIDE) == 3
    router = world.networks["router-a"]
    fixed = router.external_gateway_info["external_fixed_ips"][0]["ip_address"]
    asked = {bytes(f.data[26:30]) for f in capture.frames() if f.data[34] == 8}

    assert asked == {bytes(map(int, fixed.split(".")))}


def test_security_group_keeps_strangers_out_until_a_rule_lets_them_in(
    world: World,
) -> None:
    client = world.tenants["a"]
    floating = client.create_ip(
        floating_network_id=world.networks["public"].id, port_id=world.ports["a1"].id
    )
    address = floating.floating_ip_address
    assert pings(world.lab, "outside", address, count=2) == 0

    rule = client.create_security_group_rule(
        security_group_id=world.group("a").id,
        direction="ingress",
        ethertype="IPv4",
        protocol="icmp",
        remote_ip_prefix="203.0.113.0/24",
    )
    assert holds(lambda: pings(world.lab, "outside", address, count=1) == 1)
    assert echo(world.lab, "outside", "tcp", address) != "ok"

    client.delete_security_group_rule(rule.id)
    assert holds(lambda: pings(world.lab, "outside", address, count=1) == 0)
    client.delete_ip(floating.id)


def test_floating_ip_goes_and_comes(world: World) -> None:
    client = world.tenants["a"]
    client.create_security_group_rule(
        security_group_id=world.group("a").id,
        direction="ingress",
        ethertype="IPv4",
        protocol="tcp",
        port_range_min=7007,
        port_range_max=7007,
    )
    floating = client.create_ip(floating_network_id=world.networks["public"].id)
    client.update_ip(floating.id, port_id=world.ports["a2"].id)
    address = floating.floating_ip_address

    assert holds(lambda: echo(world.lab, "outside", "tcp", address) == "ok")
    client.update_ip(floating.id, port_id=None)
    assert holds(lambda: echo(world.lab, "outside", "tcp", address) != "ok")
    client.delete_ip(floating.id)


def test_one_port_of_a_floating_ip_is_forwarded(world: World) -> None:
    client = world.tenants["a"]
    floating = client.create_ip(floating_network_id=world.networks["public"].id)
    client.create_port_forwarding(
        floatingip_id=floating.id,
        internal_port_id=world.ports["a3"].id,
        internal_ip_address=ADDRESSES["a3"],
        internal_port=7007,
        external_port=8080,
        protocol="tcp",
    )

    def answer() -> Union[str, None]:
        return echo(world.lab, "outside", "tcp", floating.floating_ip_address, 8080)

    assert holds(lambda: answer() == "ok")


def test_allowed_address_pair_may_send(world: World) -> None:
    lab, port = world.lab, world.ports["a1"]
    lab.exec("a1", "ip address add 10.0.0.99/32 dev eth0")
    assert pings(lab, "a1", ADDRESSES["a2"], "-I", "10.0.0.99", count=2) == 0

    world.tenants["a"].update_port(
        port.id, allowed_address_pairs=[{"ip_address": "10.0.0.99"}]
    )

    assert holds(
        lambda: pings(lab, "a1", ADDRESSES["a2"], "-I", "10.0.0.99", count=1) == 1
    )


def test_instance_gets_its_metadata_signed_for_nova(world: World) -> None:
    """A stand-in for Nova answers with what it was asked; the agent runs the proxy."""
    lab = world.lab
    nova = lab.popen("n1", [sys.executable, "-c", _NOVA])
    try:
        ask = "curl -sS --max-time 2 http://169.254.169.254/openstack"
        assert holds(lambda: "x-instance-id" in lab.exec("a1", ask, check=False).stdout)
        said = dict(
            line.split(": ", 1) for line in lab.exec("a1", ask).stdout.splitlines()
        )
        assert said["path"] == "/openstack"
        assert said["x-instance-id"] == world.ports["a1"].device_id
        assert said["x-tenant-id"] == "tenant-a"
        assert said["x-forwarded-for"] == ADDRESSES["a1"]
        signature = hmac.new(b"s3cret", said["x-instance-id"].encode(), "sha256")
        assert said["x-instance-id-signature"] == signature.hexdigest()
    finally:
        nova.kill()
        nova.wait()


def test_metadata_proxy_comes_again_and_goes_with_its_agent(world: World) -> None:
    lab, node = world.lab, world.lab.host("n1")
    ask = "curl -sS -o /dev/null -w %{http_code} --max-time 2 http://169.254.169.254/"

    def answer() -> str:
        return str(lab.exec("a1", ask, check=False).stdout)

    def processes() -> list[str]:
        """Return the proxies of n1: those with its agent's configuration."""
        pattern = f"supervised.*{node.directory}/midoryu.conf"
        command = ["pgrep", "-f", f"midoryu.cmd.metadata.*{pattern}"]
        return str(lab.exec("n1", command, check=False).stdout).split()

    wait(lambda: answer() == "502")  # the stand-in for Nova is gone
    (first,) = processes()
    os.kill(int(first), signal.SIGKILL)
    wait(lambda: processes() not in ([], [first]))
    wait(lambda: answer() == "502")

    lab.kill("n1", "agent")
    assert proxies_of(world)
    wait(lambda: processes() == [] and not proxies_of(world))
    assert "mrm" not in node.ovs_vsctl("list-ports", "br-int")
    lab.restore("n1", "agent")
    wait(lambda: answer() == "502")
