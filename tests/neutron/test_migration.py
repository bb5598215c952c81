# SPDX-License-Identifier: Apache-2.0
"""Live migration as Nova does it: bind, plug, wait, move, activate, unplug, unbind."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab
from midoryu.nsdb.session import Session
from midoryu.packet.address import format_mac, parse_mac
from tests.functional.lab_tools import opened, pings, send_frames
from tests.neutron.cloud import running, wait
from tests.neutron.nova import Nova, listening
from tests.neutron.test_consistency import sync
from tests.neutron.test_traffic import ADDRESSES, HOSTS, MACS, World, lab_file

NAME = "a1"
OWN = f"{ADDRESSES[NAME]}/24"
MAC = parse_mac(MACS[NAME]).to_bytes(6, "big")
RARP = (
    b"\xff" * 6 + MAC + bytes.fromhex("8035 0001 0800 06 04 0003")
    + MAC + bytes(4) + MAC + bytes(4)
).ljust(60, b"\0")  # fmt: skip


class Place(NamedTuple):
    """Where the instance runs, or may run next."""

    host: str
    device: str
    """Its interface at the host."""
    inside: str
    """The same as the instance sees it."""


class Moving(NamedTuple):
    """A world, and Nova's part."""

    world: World
    nova: Nova

    @property
    def port(self) -> str:
        return str(self.world.ports[NAME].id)

    def bindings(self, verb: str, tail: str = "", **body: Any) -> Any:
        url = f"/ports/{self.port}/bindings{tail}"
        return getattr(self.world.admin, verb)(url, **({"json": body} if body else {}))

    def prepare(self, place: Place) -> None:
        """Bind and plug at the destination, and wait until it is wired."""
        made = self.bindings("post", binding={"host": place.host})
        assert made.json()["binding"]["vif_type"] == "ovs"
        self.profile(migrating_to=place.host)
        before = self.nova.plugged(self.port)
        make(self.world.lab, place)
        self.world.plug(NAME, place.host, place.device)
        wait(lambda: self.nova.plugged(self.port) > before)

    def finish(self, old: Place, new: Place) -> None:
        """Activate the new binding, and take the old one away."""
        assert self.bindings("put", f"/{new.host}/activate").status_code == 200
        self.world.plug(NAME, old.host, old.device, "unplug")
        assert self.bindings("delete", f"/{old.host}").status_code == 204
        self.profile()

    def profile(self, **words: str) -> None:
        self.world.admin.update_port(self.port, binding_profile=words)

    def carrier(self) -> str:
        """Return the host where the NSDB says that the port is up."""
        ports = self.world.lab.ctl("--format", "json", "port", "list")
        return str(
            next(p["up_on"] for p in json.loads(ports) if p["iface_id"] == self.port)
        )


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moving]:
    with Lab(lab_file(), name="nmove") as lab, listening() as nova:
        directory = tmp_path_factory.mktemp("cloud")
        options = {"gateways": "public:g1", "nova": nova.url}
        with running(directory, lab.nsdb.remote, **options) as cloud:
            world = World(lab, cloud)
            world.build()
            wait(lambda: all(world.status(name) == "ACTIVE" for name in ADDRESSES))
            yield Moving(world, nova)


def make(lab: Lab, place: Place) -> None:
    """Give the instance one more interface with its MAC, at a host."""
    vm = lab.namespace(NAME)
    mac = format_mac(parse_mac(MACS[NAME]))
    peer = f"type veth peer name {place.inside} address {mac} netns {vm}"
    lab.exec(place.host, f"ip link add {place.device} {peer}")
    for node, name in ((place.host, place.device), (NAME, place.inside)):
        lab.exec(node, f"ip link set dev {name} up")
        lab.exec(node, f"ip link set dev {name} mtu 1458")
        with contextlib.suppress(LabError):
            lab.exec(node, f"ethtool -K {name} tx off")


def move(lab: Lab, old: Place, new: Place) -> None:
    """Let the instance run at its other interface; it says so when told to."""
    script = (
        f"ip address del {OWN} dev {old.inside}; ip address add {OWN} dev {new.inside};"
        f"ip link set dev {old.inside} down;"
        f"ip route replace default via 10.0.0.1 dev {new.inside}"
    )
    lab.exec(NAME, ["sh", "-c", script])


def announce(lab: Lab, place: Place) -> None:
    """Announce the instance as QEMU does."""
    send_frames(lab, NAME, place.inside, [RARP])


def test_the_destination_is_wired_before_nova_is_told_and_shut_until_it_speaks(
    moving: Moving,
) -> None:
    world, lab = moving.world, moving.world.lab
    old = Place(HOSTS[NAME], world.device(NAME), "eth0")
    new = Place("g1", "spare", "eth1")
    with opened(lab, NAME, "tcp", ADDRESSES["a2"]) as session:
        assert session.exchange().ok
        moving.bindings("post", binding={"host": "g1"})
        moving.profile(migrating_to="g1")
        told = moving.nova.plugged(moving.port)
        time.sleep(3.0)
        assert moving.nova.plugged(moving.port) == told
        make(lab, new)
        world.plug(NAME, new.host, new.device)
        wait(lambda: moving.nova.plugged(moving.port) > told)

        assert moving.carrier() == old.host
        assert session.exchange().ok
        with lab.capture("a2", expression="udp port 4242") as capture:
            send_frames(lab, NAME, new.inside, [_udp()] * 3)
            time.sleep(0.5)
        assert list(capture.frames()) == []

        move(lab, old, new)
        announce(lab, new)
        assert session.exchange().ok
        wait(lambda: moving.carrier() == "g1", 5)
        assert world.admin.get_port(moving.port).binding_host_id == old.host
        with lab.capture("a2", expression="udp port 4242") as capture:
            send_frames(lab, NAME, new.inside, [_udp()] * 3)
            time.sleep(0.5)
        assert len(list(capture.frames())) == 3

        moving.finish(old, new)
        wait(lambda: world.status(NAME) == "ACTIVE")
        assert session.exchange().ok
    assert pings(lab, NAME, ADDRESSES["a3"]) == 3
    wait(lambda: sync(world.cloud, "--check")[0] == 0, 10)


def _udp() -> bytes:
    """Make a datagram from a1 to a2, port 4242; no checksum, which IPv4 allows."""
    ends = (bytes(map(int, ADDRESSES[name].split("."))) for name in (NAME, "a2"))
    head = bytes.fromhex("4500 0020 0000 4000 40 11 0000") + b"".join(ends)
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    check = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
    udp = bytes.fromhex("1092 1092 000c 0000") + b"move"
    ethernet = parse_mac(MACS["a2"]).to_bytes(6, "big") + MAC + b"\x08\x00"
    return (ethernet + head[:10] + check + head[12:] + udp).ljust(60, b"\0")


def test_twenty_migrations_leave_nothing_behind(moving: Moving) -> None:
    world, lab = moving.world, moving.world.lab
    found = [p for p in ("n1", "g1") if moving.carrier() == p]
    here = Place(found[0], "spare" if found == ["g1"] else world.device(NAME), "eth1")
    before: Any = None
    with opened(lab, NAME, "tcp", ADDRESSES["a2"]) as session:
        for turn in range(20):
            host = "n1" if here.host == "g1" else "g1"
            there = Place(host, f"turn{turn}", f"eth{turn + 10}")
            moving.prepare(there)
            move(lab, here, there)
            if turn % 2:
                announce(lab, there)
            moving.finish(here, there)
            wait(lambda: moving.carrier() == host, 5)  # noqa: B023
            assert session.exchange().ok, turn
            here = there
            if turn == 1:
                before = _leftovers(world)
    assert _leftovers(world) == before
    assert sync(world.cloud, "--check")[0] == 0


def _leftovers(world: World) -> dict[str, Any]:
    """Count what plugging could leave behind."""
    lab = world.lab
    found: dict[str, Any] = {}
    with Session(lab.nsdb.remote, timeout_s=5.0) as session:
        for table in ("Port", "Port_Status", "Port_Ready", "Host", "Chain", "Mac"):
            found[table] = len(session.tables[table].rows)
    for host in ("n1", "g1"):
        node = lab.host(host)
        found[f"ports of {host}"] = len(node.ovs_vsctl("list-ports", "br-int").split())
        found[f"interfaces of {host}"] = node.ovs_vsctl(
            "--bare", "--columns=name", "list", "interface"
        ).count("turn")
    return found
