# SPDX-License-Identifier: Apache-2.0
"""Octavia's provider driver, called as Octavia does, and traffic by its balancers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from octavia_lib.api.drivers import data_models as models
from octavia_lib.api.drivers import exceptions
from oslo_config import cfg

from midoryu.conf import neutron as options
from midoryu.lab.lab import Lab
from midoryu.neutron.octavia import MidoryuProviderDriver, run_agent
from tests.functional.lab_tools import echo
from tests.functional.lab_tools import wait as holds
from tests.neutron.cloud import running, wait
from tests.neutron.driver_agent import DriverAgent, listening
from tests.neutron.test_consistency import sync
from tests.neutron.test_traffic import ADDRESSES, World, lab_file

VIP = "10.0.0.100"
MEMBERS = ("a2", "a3")


def new_id() -> str:
    return str(uuid.uuid4())


class Cluster(NamedTuple):
    """A cloud with a balancer."""

    world: World
    driver: MidoryuProviderDriver
    agent: DriverAgent
    balancer: models.LoadBalancer
    listener: models.Listener
    pool: models.Pool
    members: dict[str, models.Member]

    def is_active(self, kind: str, ident: str) -> bool:
        return self.agent.status(kind, ident) == "ACTIVE"

    def operating(self, kind: str, ident: str) -> str:
        return self.agent.status(kind, ident, "operating")

    def calls(self, count: int = 6) -> list[str]:
        """Call the VIP from a1, each time by another port."""
        lab = self.world.lab
        return [echo(lab, "a1", "tcp", VIP, 80) for _ in range(count)]

    def reached(self, count: int = 6) -> set[str]:
        """Call the VIP; return the members that were called."""
        lab = self.world.lab
        expression = "tcp dst port 7007 and tcp[tcpflags] & tcp-syn != 0"
        with (
            lab.capture("a2", expression=expression) as two,
            lab.capture("a3", expression=expression) as three,
        ):
            assert self.calls(count) == ["ok"] * count
        captures = {"a2": two, "a3": three}
        return {name for name, one in captures.items() if list(one.frames())}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Lab(lab_file(), name="nocta") as lab:
        directory = tmp_path_factory.mktemp("cloud")
        with (
            running(directory, lab.nsdb.remote, gateways="public:g1") as cloud,
            listening(directory) as agent,
        ):
            world = World(lab, cloud)
            world.build()
            wait(lambda: all(world.status(name) == "ACTIVE" for name in ADDRESSES))
            configure(lab.nsdb.remote, agent)
            over = threading.Event()
            watcher = threading.Thread(target=run_agent, args=(over,))
            watcher.start()
            try:
                yield build(world, agent)
            finally:
                over.set()
                watcher.join()


def configure(nsdb: str, agent: DriverAgent) -> None:
    """Set what `octavia.conf` would have."""
    options.register_opts(cfg.CONF)
    cfg.CONF.set_override("nsdb_connection", nsdb, "midoryu")
    names = [f"{name}_socket_path" for name in agent.paths]
    cfg.CONF.register_opts([cfg.StrOpt(name) for name in names], "driver_agent")
    for name, path in agent.paths.items():
        cfg.CONF.set_override(f"{name}_socket_path", path, "driver_agent")


def build(world: World, agent: DriverAgent) -> Cluster:
    """Make a balancer as Octavia's API does, call by call."""
    network = world.networks["a0"]
    driver = MidoryuProviderDriver()
    with pytest.raises(exceptions.NotImplementedError):
        driver.create_vip_port(new_id(), "tenant-a", {})
    port = world.tenants["a"].create_port(
        network_id=network.id,
        fixed_ips=[{"ip_address": VIP}],
        device_owner="Octavia",
        device_id="lb-1",
        name="vip",
    )
    world.ports["vip"] = port
    balancer = models.LoadBalancer(
        loadbalancer_id=new_id(),
        name="web",
        project_id="tenant-a",
        vip_address=VIP,
        vip_network_id=network.id,
        vip_port_id=port.id,
        vip_subnet_id=port.fixed_ips[0]["subnet_id"],
        admin_state_up=True,
    )
    listener = models.Listener(
        listener_id=new_id(),
        loadbalancer_id=balancer.loadbalancer_id,
        protocol="TCP",
        protocol_port=80,
        connection_limit=-1,
        admin_state_up=True,
    )
    pool = models.Pool(
        pool_id=new_id(),
        loadbalancer_id=balancer.loadbalancer_id,
        listener_id=listener.listener_id,
        protocol="TCP",
        lb_algorithm="SOURCE_IP_PORT",
        admin_state_up=True,
    )
    members = {
        name: models.Member(
            member_id=new_id(),
            pool_id=pool.pool_id,
            address=ADDRESSES[name],
            protocol_port=7007,
            weight=1,
            backup=False,
            admin_state_up=True,
        )
        for name in MEMBERS
    }
    agent.to_refuse = 2
    driver.loadbalancer_create(balancer)
    driver.listener_create(listener)
    driver.pool_create(pool)
    for member in members.values():
        driver.member_create(member)
    return Cluster(world, driver, agent, balancer, listener, pool, members)


def test_octavia_hears_that_everything_is_active(cluster: Cluster) -> None:
    ident = cluster.members["a3"].member_id
    wait(lambda: cluster.is_active("members", ident))

    assert cluster.is_active("loadbalancers", cluster.balancer.loadbalancer_id)
    assert cluster.is_active("listeners", cluster.listener.listener_id)
    assert cluster.operating("pools", cluster.pool.pool_id) == "ONLINE"
    assert cluster.operating("members", ident) == "NO_MONITOR"


def test_vip_leads_to_members_of_both_networks(cluster: Cluster) -> None:
    assert holds(lambda: cluster.calls(1) == ["ok"])
    assert cluster.reached(12) == {"a2", "a3"}


def test_floating_address_of_the_vip_leads_to_the_balancer(cluster: Cluster) -> None:
    world, client = cluster.world, cluster.world.tenants["a"]
    client.create_security_group_rule(
        security_group_id=world.group("a").id,
        direction="ingress",
        ethertype="IPv4",
        protocol="tcp",
        port_range_min=7007,
        port_range_max=7007,
    )
    floating = client.create_ip(
        floating_network_id=world.networks["public"].id,
        port_id=world.ports["vip"].id,
    )
    address = floating.floating_ip_address

    assert holds(lambda: echo(world.lab, "outside", "tcp", address, 80) == "ok")


def test_drained_and_disabled_members_get_nothing_new(cluster: Cluster) -> None:
    member = cluster.members["a2"]
    new = models.Member(member_id=member.member_id, weight=0)
    cluster.driver.member_update(member, new)
    assert holds(lambda: cluster.reached() == {"a3"})
    wait(lambda: cluster.operating("members", member.member_id) == "DRAINING")

    new = models.Member(member_id=member.member_id, weight=1, admin_state_up=False)
    cluster.driver.member_update(member, new)
    assert holds(lambda: cluster.reached() == {"a3"})
    new = models.Member(member_id=member.member_id, admin_state_up=True)
    cluster.driver.member_update(member, new)
    assert holds(lambda: cluster.reached(12) == {"a2", "a3"})


def test_source_ip_holds_a_client_to_one_member(cluster: Cluster) -> None:
    pool, ident = cluster.pool, cluster.pool.pool_id
    sticky = {"type": "SOURCE_IP", "persistence_timeout": 60}
    new = models.Pool(pool_id=ident, session_persistence=sticky)
    cluster.driver.pool_update(pool, new)
    assert holds(lambda: len(cluster.reached(8)) == 1)
    cluster.driver.pool_update(pool, models.Pool(pool_id=ident, session_persistence={}))
    assert holds(lambda: len(cluster.reached(12)) == 2)


def test_monitor_finds_a_dead_member_and_octavia_hears_of_it(cluster: Cluster) -> None:
    dead = models.Member(
        member_id=new_id(),
        pool_id=cluster.pool.pool_id,
        address=ADDRESSES["a2"],
        protocol_port=7999,
        admin_state_up=True,
    )
    monitor = models.HealthMonitor(
        healthmonitor_id=new_id(),
        pool_id=cluster.pool.pool_id,
        type="TCP",
        delay=1,
        timeout=1,
        max_retries=1,
        max_retries_down=2,
        admin_state_up=True,
    )
    cluster.driver.member_create(dead)
    cluster.driver.health_monitor_create(monitor)

    wait(lambda: cluster.operating("members", dead.member_id) == "ERROR")
    wait(lambda: cluster.operating("pools", cluster.pool.pool_id) == "DEGRADED")
    assert cluster.calls(8) == ["ok"] * 8
    alive = cluster.members["a2"].member_id
    assert cluster.operating("members", alive) == "ONLINE"
    cluster.driver.health_monitor_delete(monitor)
    cluster.driver.member_batch_update(
        cluster.pool.pool_id, list(cluster.members.values())
    )
    wait(lambda: cluster.agent.status("members", dead.member_id) == "DELETED")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"protocol": "HTTP"}, "protocol HTTP"),
        ({"insert_headers": {"X-Forwarded-For": "true"}}, "insert_headers"),
        ({"allowed_cidrs": ["10.0.0.0/8"]}, "allowed_cidrs"),
        ({"connection_limit": 10}, "limit"),
    ],
)
def test_what_packets_cannot_do_is_refused(
    cluster: Cluster, words: dict[str, Any], reason: str
) -> None:
    listener = models.Listener(
        **{
            "listener_id": new_id(),
            "loadbalancer_id": cluster.balancer.loadbalancer_id,
            "protocol": "TCP",
            "protocol_port": 81,
            **words,
        }
    )
    with pytest.raises(exceptions.UnsupportedOptionError, match=reason):
        cluster.driver.listener_create(listener)


def test_a_driver_for_each_request_costs_no_connection(cluster: Cluster) -> None:
    before = threading.active_count()
    drivers = [MidoryuProviderDriver() for _ in range(5)]

    assert threading.active_count() == before
    new = models.LoadBalancer(
        loadbalancer_id=cluster.balancer.loadbalancer_id, name="renamed"
    )
    for driver in drivers:
        driver.loadbalancer_update(cluster.balancer, new)
    assert threading.active_count() == before


def test_l7_policies_are_refused(cluster: Cluster) -> None:
    with pytest.raises(exceptions.UnsupportedOptionError):
        cluster.driver.l7policy_create(models.L7Policy(l7policy_id=new_id()))


def test_neutron_leaves_the_rows_of_balancers(cluster: Cluster) -> None:
    wait(lambda: sync(cluster.world.cloud, "--check")[0] == 0, 10)
    assert sync(cluster.world.cloud, "--repair")[0] == 0
    assert cluster.calls(2) == ["ok"] * 2


def test_listener_that_is_down_answers_nobody_until_it_is_up(cluster: Cluster) -> None:
    ident = cluster.listener.listener_id
    for state, expected in ((False, False), (True, True)):
        new = models.Listener(listener_id=ident, admin_state_up=state)
        cluster.driver.listener_update(cluster.listener, new)
        assert holds(lambda: (cluster.calls(1) == ["ok"]) is expected)  # noqa: B023


def test_a_balancer_goes_with_all_that_it_has(cluster: Cluster) -> None:
    ident = cluster.balancer.loadbalancer_id
    with pytest.raises(exceptions.DriverError):
        cluster.driver.loadbalancer_delete(cluster.balancer)
    cluster.driver.loadbalancer_delete(cluster.balancer, cascade=True)

    wait(lambda: cluster.agent.status("loadbalancers", ident) == "DELETED")
    gone = cluster.agent.status("listeners", cluster.listener.listener_id)
    assert gone == "DELETED"
    assert holds(lambda: cluster.calls(1) != ["ok"])
