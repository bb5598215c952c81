# SPDX-License-Identifier: Apache-2.0
"""Two gateway hosts of one external network, both connected to the same segment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import opened, pings
from tests.functional.lab_tools import wait as holds
from tests.neutron.cloud import Cloud, running, wait

OUTSIDE = "203.0.113.1"
MAC = "02:00:00:00:0c:01"
SERVE = "exec python3 -m midoryu.lab.session serve 7007"
LAB: dict[str, Any] = {
    "hosts": ["n1", "g1", "g2"],
    "vms": {
        "vm": {
            "host": "n1",
            "iface_id": "waiting",
            "mac": MAC,
            "ip": "10.0.0.11/24",
            "gateway": "10.0.0.1",
            "mtu": 1458,
            "run": [SERVE],
        },
        "up1": {"host": "g1", "iface_id": "public@g1"},
        "up2": {"host": "g2", "iface_id": "public@g2"},
    },
    # A link that nothing uses: the lab wants one for each machine outside.
    "outside": {
        "outside": {"interfaces": {"unused": []}, "run": [SERVE]},
        "other": {"interfaces": {"unused": []}},
    },
    "links": [["outside/unused", "other/unused"]],
}


def join(lab: Lab) -> None:
    """Put both uplinks and the outside machine on one segment."""
    outside = lab.namespace("outside")
    for number, name in enumerate(("up1", "up2"), start=1):
        peer = f"type veth peer name seg{number} netns {outside}"
        lab.exec(name, f"ip link add seg {peer}")
        lines = [
            "ip link add name seg0 type bridge",
            "ip link set seg0 up",
            "ip link set eth0 master seg0",
            "ip link set seg up",
            "ip link set seg master seg0",
        ]
        for line in lines:
            lab.exec(name, line)
    lines = [
        "ip link add name seg0 type bridge",
        "ip link set seg0 up",
        f"ip address add {OUTSIDE}/24 dev seg0",
        *(f"ip link set seg{n} up" for n in (1, 2)),
        *(f"ip link set seg{n} master seg0" for n in (1, 2)),
    ]
    for line in lines:
        lab.exec("outside", line)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Cloud]]:
    with Lab(LAB, name="ngateways") as lab:
        join(lab)
        directory = tmp_path_factory.mktemp("cloud")
        gateways = "public:g1,public:g2"
        with running(directory, lab.nsdb.remote, gateways=gateways) as cloud:
            build(lab, cloud)
            yield lab, cloud


def build(lab: Lab, cloud: Cloud) -> None:
    admin = cloud.admin()
    public = admin.create_network(
        is_router_external=True,
        provider_network_type="flat",
        provider_physical_network="public",
    )
    admin.create_subnet(
        network_id=public.id,
        ip_version=4,
        cidr="203.0.113.0/24",
        gateway_ip=OUTSIDE,
        enable_dhcp=False,
    )
    network = admin.create_network()
    subnet = admin.create_subnet(
        network_id=network.id, ip_version=4, cidr="10.0.0.0/24"
    )
    router = admin.create_router(external_gateway_info={"network_id": public.id})
    admin.add_interface_to_router(router.id, subnet_id=subnet.id)
    wait(lambda: len(list(admin.agents())) == 3)
    port = admin.create_port(
        network_id=network.id,
        mac_address=MAC,
        fixed_ips=[{"ip_address": "10.0.0.11"}],
        binding_host_id="n1",
    )
    device = lab.spec.plugs("n1")[0].device
    iface_id = f'external_ids:iface-id="{port.id}"'
    lab.host("n1").ovs_vsctl("set", "interface", device, iface_id)
    wait(lambda: admin.get_port(port.id).status == "ACTIVE")


def test_nothing_circles_between_the_uplinks(world: tuple[Lab, Cloud]) -> None:
    lab, _ = world
    with lab.capture("outside", "seg0", "arp") as capture:
        assert pings(lab, "vm", OUTSIDE) == 3

    assert len(list(capture.frames())) < 20


def test_connection_goes_on_when_the_operator_names_another_gateway_first(
    world: tuple[Lab, Cloud],
) -> None:
    lab, cloud = world
    with opened(lab, "vm", "tcp", OUTSIDE) as session:
        assert session.exchange().ok
        lab.kill("g1", "host")
        cloud.kill("worker")
        path = cloud.directory / "ml2_conf.ini"
        text = path.read_text()
        path.write_text(text.replace("public:g1,public:g2", "public:g2,public:g1"))
        cloud.start_worker()

        assert holds(lambda: session.exchange().ok, 40)
        assert holds(lambda: pings(lab, "vm", OUTSIDE, count=1) == 1, 10)
