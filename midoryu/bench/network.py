# SPDX-License-Identifier: Apache-2.0
"""Suite `network`: real Open vSwitch on four lab hosts, real traffic.

The same topology and the same loads under midoryu, OVN (where it is installed) and
static flows, each in a lab of its own, one after the other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from statistics import median
from typing import Any, Final

from midoryu.bench import cpu, fairness, ovn, static_flows
from midoryu.bench import net_world as world
from midoryu.bench.report import Figure
from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab

_STATIC: Final = "static flows"
_OVN: Final = "OVN"
_MIDORYU: Final = "midoryu"
_NAME: Final = "benchnet"
_FLOWS: Final = 200
_COLD: Final = 10
_IN_FLIGHT: Final = (1, 32)
_GAP_S: Final = 6.0
_PYTHON: Final = ["python3", "-W", "ignore", "-m", "midoryu.bench.load"]
Tell = Callable[[str], None]
Samples = dict[tuple[str, str], list[float]]


def run(repeat: int, seconds: float, tell: Tell) -> list[Figure]:
    """Measure all three and compare.

    Raises:
        LabError: a lab does not come up.
    """
    results = {_STATIC: _static(repeat, seconds, tell)}
    if ovn.is_installed():
        results[_OVN] = _ovn(repeat, seconds, tell)
    else:
        tell("OVN is not installed (Debian: ovn-central, ovn-host): no comparison")
    results[_MIDORYU] = _midoryu(repeat, seconds, tell)
    with Lab(world.lab(), name=_NAME) as lab:
        beside = fairness.measure(lab, repeat, lambda line: tell(f"midoryu: {line}"))
    return [*_figures(results), *beside]


def _figures(results: dict[str, Samples]) -> list[Figure]:
    """Compare midoryu with OVN where it was measured, else with static flows."""
    figures = []
    for key, samples in results[_MIDORYU].items():
        name, unit = key
        for reference in (_OVN, _STATIC):
            others = results.get(reference, {}).get(key)
            if others and samples:
                figure = Figure("network", name, unit, reference, samples, others)
                figures.append(figure)
    return figures


def _static(repeat: int, seconds: float, tell: Tell) -> Samples:
    tell("static flows: making hosts")
    with Lab(world.lab(), name=_NAME, agents=False) as lab:
        static_flows.install(lab)
        return _measure(lab, repeat, seconds, lambda line: tell(f"static: {line}"))


def _ovn(repeat: int, seconds: float, tell: Tell) -> Samples:
    def say(line: str) -> None:
        tell(f"OVN: {line}")

    samples: Samples = {}
    # Each on fresh hosts: OVS 3.1's userspace ct() may not survive many connections.
    for path in world.PATHS:
        say(f"making hosts for {path}")
        with Lab(world.lab(), name=_NAME, agents=False) as lab:
            ovn.Ovn(lab).start()
            samples.update(_measure(lab, repeat, seconds, say, (path,)))
    with Lab(world.lab(), name=_NAME, agents=False) as lab:
        peer = ovn.Ovn(lab)
        peer.start()
        _fail_over(lab, samples, peer.kill_gateway, say)
    return samples


def _midoryu(repeat: int, seconds: float, tell: Tell) -> Samples:
    def say(line: str) -> None:
        tell(f"midoryu: {line}")

    say("making hosts")
    with Lab(world.lab(), name=_NAME) as lab:
        samples = _measure(lab, repeat, seconds, say)
    with Lab(world.lab(), name=_NAME) as lab:
        _fail_over(lab, samples, lambda: lab.kill("g1", "host"), say)
    return samples


def _measure(
    lab: Lab,
    repeat: int,
    seconds: float,
    tell: Tell,
    paths: Collection[str] = tuple(world.PATHS),
) -> Samples:
    samples: Samples = {}
    for machine in ("a", "b", "c", "server"):
        # A client closes thousands of connections to one address and port.
        lab.exec(machine, "sysctl -qw net.ipv4.ip_local_port_range='1024 65535' "
                          "net.ipv4.tcp_tw_reuse=1")  # fmt: skip
    for path in paths:
        _, address = world.PATHS[path]
        _load(lab, "first", "--to", address, "--count", "3")  # learns neighbours
        for turn in range(repeat):
            tell(f"{turn + 1}/{repeat} {path}")
            try:
                values = _one(lab, path, address, seconds)
            except LabError as problem:
                tell(f"{path}: {problem}")
                _tell_dead(lab, tell)
                return samples
            for name, unit, value in values:
                samples.setdefault((name, unit), []).append(value)
    return samples


def _tell_dead(lab: Lab, tell: Tell) -> None:
    for name, host in lab.hosts.items():
        if not host.is_running("ovs-vswitchd"):
            tell(f"{name}: ovs-vswitchd has died; what is left cannot be measured")


def _one(
    lab: Lab, path: str, address: str, seconds: float
) -> list[tuple[str, str, float]]:
    """Measure one path once: (figure, unit, value)."""
    values = []
    cold = []
    for _ in range(_COLD):
        _cool(lab)
        cold += _load(lab, "first", "--to", address, "--count", "1")["first"]
    if cold:
        values.append((f"{path}: first packet, cold", "ms", median(cold)))
    flows = _load(lab, "first", "--to", address, "--count", str(_FLOWS))
    if flows["first"]:
        values.append((f"{path}: first packet of a flow", "ms", median(flows["first"])))
    trips = _load(lab, "steady", "--to", address, "--count", str(_FLOWS))
    values.append((f"{path}: round trip", "ms", median(trips["steady"])))
    values.append((f"{path}: TCP", "Mbit/s", _iperf(lab, address, seconds, ())))
    udp = _iperf(lab, address, seconds, ("-u", "-b", "300M", "-l", "1400"))
    values.append((f"{path}: UDP at 300 Mbit/s", "Mbit/s", udp))
    for in_flight in _IN_FLIGHT:
        name = f"{path}: new connections, {in_flight} clients"
        before = cpu.used_us(lab)
        result = _load(
            lab,
            "connect",
            *("--to", address, "--in-flight", str(in_flight)),
            *("--seconds", str(2 * seconds)),
        )
        values.append((name, "/s", result["rate"]))
        count = result["rate"] * 2 * seconds
        for who, used in cpu.used_us(lab).items():
            if in_flight == max(_IN_FLIGHT) and count and used >= before[who]:
                each = (used - before[who]) / count
                values.append((f"{name}, CPU of {who} for each", "us", each))
    return values


def _load(lab: Lab, load: str, *arguments: str) -> dict[str, Any]:
    command = [*_PYTHON, load, "--port", str(world.PORT), *arguments]
    result = lab.exec("a", command, timeout=600)
    values: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return values


def _cool(lab: Lab) -> None:
    """Make every switch forget the flows that it learned of packets."""
    for name in world.HOSTS:
        lab.host(name).ovs_appctl("dpctl/del-flows", "netdev@ovs-netdev")
        if lab.agents:
            # Reactive flows only: kind 3 of midoryu's cookies.
            lab.host(name).ovs_ofctl(
                "del-flows", "cookie=0x6d03000000000000/0xffff000000000000"
            )


def _iperf(lab: Lab, address: str, seconds: float, options: tuple[str, ...]) -> float:
    command = ["iperf3", "-J", "-c", address, "-p", str(world.IPERF_PORT),
               "-t", str(max(2, round(2 * seconds))), *options]  # fmt: skip
    for _ in range(3):
        result = lab.exec("a", command, timeout=60, check=False)
        summary = json.loads(result.stdout or "{}").get("end", {})
        if "sum_received" in summary:
            return float(summary["sum_received"]["bits_per_second"]) / 1e6
        if "sum" in summary:
            got = summary["sum"]
            share = 1 - float(got.get("lost_percent", 0)) / 100
            return float(got["bits_per_second"]) * share / 1e6
        time.sleep(0.5)
    raise LabError(f"iperf3 to {address}: {result.stdout[-300:]} {result.stderr}")


def _fail_over(
    lab: Lab, samples: Samples, kill: Callable[[], object], tell: Tell
) -> None:
    tell("the active gateway dies")
    command = [*_PYTHON, "gap", "--to", world.SERVER_IP, "--port", str(world.PORT),
               "--seconds", str(_GAP_S)]  # fmt: skip
    child = lab.popen("a", command)
    assert child.stdout is not None
    child.stdout.readline()  # "ready"
    time.sleep(1.0)
    kill()
    out, error = child.communicate(timeout=_GAP_S + 30)
    try:
        result = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        raise LabError(f"the failover load ended without a result: {error}") from None
    samples[("gateway dies: longest gap", "ms")] = [result["gap"]]
    samples[("gateway dies: UDP packets lost", "packets")] = [float(result["lost"])]
