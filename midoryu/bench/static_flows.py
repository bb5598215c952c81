# SPDX-License-Identifier: Apache-2.0
"""Static flows with the effect of `net_world`: no controller, no state, no filters.

The least that any controller could make OVS do for the same paths: one lookup, rewrite,
tunnel. Masquerade becomes a fixed address without a choice of ports.
"""

from __future__ import annotations

from typing import Final

from midoryu.bench import net_world as world
from midoryu.lab.lab import Lab

_GRE: Final = "bench-gre"
_KEYS: Final = {"a": 1, "b": 2, "c": 3, "server": 4}
_PLACE: Final = {"a": "h1", "b": "h2", "c": "h2", "server": "g1"}


def install(lab: Lab) -> None:
    """Install every flow, and tell the machines their neighbours."""
    for name in sorted(set(_PLACE.values())):
        host = lab.host(name)
        host.ovs_vsctl("add-port", "br-int", _GRE, "--", "set", "interface", _GRE,
                       "type=gre", "options:key=flow",
                       "options:remote_ip=flow")  # fmt: skip
    for place in sorted(set(_PLACE.values())):
        for flow in _flows(lab, place):
            lab.host(place).ovs_ofctl("add-flow", flow)
    _neighbours(lab)


def _device(lab: Lab, machine: str) -> str:
    if machine == "server":
        plugs = lab.spec.plugs("g1")
        return next(p.device for p in plugs if p.uplink)
    iface_id = f"{world.VMS[machine][0]}/{machine}"
    plugs = lab.spec.plugs(_PLACE[machine])
    return next(p.device for p in plugs if p.iface_id == iface_id)


def _flows(lab: Lab, place: str) -> list[str]:
    flows = []
    for machine, at in _PLACE.items():
        if at == place:
            out = f"output:{_device(lab, machine)}"
            flows.append(f"in_port={_GRE},tun_id={_KEYS[machine]},actions={out}")
    pairs = [("a", other) for other in ("b", "c", "server")]
    pairs += [(other, "a") for _, other in pairs]
    for source, target in pairs:
        if _PLACE[source] == place:
            flows.append(_flow(lab, source, target))
    return flows


def _flow(lab: Lab, source: str, target: str) -> str:
    """Write the flow for packets from one machine to another."""
    peer = lab.host(_PLACE[target]).host.ip
    actions = []
    sender = world.vm_ip(source) if source in world.VMS else world.SERVER_IP
    seen = world.vm_ip(target) if target in world.VMS else world.SERVER_IP
    if target == "server":
        actions += [f"set_field:{world.MASQUERADE}->ip_src"]
    if source == "server":
        seen = world.MASQUERADE
        actions += [f"set_field:{world.vm_ip(target)}->ip_dst"]
    if {source, target} != {"a", "b"}:
        mac = world.vm_mac(target) if target in world.VMS else world.SERVER_MAC
        network = world.VMS[target][0] if target in world.VMS else ""
        own = world.ROUTER_MACS.get(network, world.UPLINK_MACS["g1"])
        actions += ["dec_ttl", f"set_field:{own}->eth_src", f"set_field:{mac}->eth_dst"]
    actions += [
        f"set_field:{_KEYS[target]}->tun_id",
        f"set_field:{peer}->tun_dst",
        f"output:{_GRE}",
    ]
    match = f"in_port={_device(lab, source)},ip,nw_src={sender},nw_dst={seen}"
    return f"{match},actions={','.join(actions)}"


def _neighbours(lab: Lab) -> None:
    known = {
        "a": {"10.0.1.12": world.vm_mac("b"), "10.0.1.1": world.ROUTER_MACS["web"]},
        "b": {"10.0.1.11": world.vm_mac("a"), "10.0.1.1": world.ROUTER_MACS["web"]},
        "c": {"10.0.2.1": world.ROUTER_MACS["app"]},
        "server": {world.MASQUERADE: world.UPLINK_MACS["g1"]},
    }
    for machine, neighbours in known.items():
        for address, mac in neighbours.items():
            lab.exec(machine, f"ip neigh replace {address} lladdr {mac} dev eth0")
