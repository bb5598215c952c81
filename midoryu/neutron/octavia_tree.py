# SPDX-License-Identifier: Apache-2.0
"""An Octavia load balancer as one value, and its rows.

Pure. Octavia's objects come as dictionaries of what is set (`to_dict`); the tree of a
balancer has all that its rows need, and is kept in the balancer's own row as JSON: the
driver has no other memory. `octavia` calls, `octavia_status` tells how it fares.

What Octavia may ask for and packets cannot be made to do is `UnsupportedError`, before
anything changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from midoryu.neutron import unit
from midoryu.neutron.label import labelled
from midoryu.nsdb.item import Item, make_item
from midoryu.packet import protocol

Tree = dict[str, Any]
"""`id network vips up`, `listeners` and `pools` by id; a pool has `members` by id."""
Fields = Mapping[str, Any]
"""What is set of one of Octavia's objects."""

TREE_KEY: Final = "octavia:tree"
MEMBER_KEY: Final = "octavia:member"
KIND: Final = "octavia"
"""Kind of the unit that a balancer's rows are (`unit`)."""
PROTOCOLS: Final = {
    "TCP": protocol.TCP,
    "UDP": protocol.UDP,
    "SCTP": protocol.SCTP,
}
_MONITORS: Final = {"TCP": "tcp", "HTTP": "http", "PING": "icmp", "UDP-CONNECT": "udp"}
_ALGORITHMS: Final = ("SOURCE_IP_PORT", "SOURCE_IP")
# As in OVN's provider; with SOURCE_IP as the algorithm only a client that comes back
# before this can stay where members come and go.
_AFFINITY_S: Final = 360
_PREFIX: Final = "octavia-"
_MAX_WEIGHT: Final = 255
_TLS: Final = ("tls_container_ref", "tls_enabled", "ca_tls_container_ref")
_LISTENER_REFUSED: Final = (
    "allowed_cidrs",
    "insert_headers",
    "l7policies",
    "default_tls_container_ref",
    "sni_container_refs",
    "client_ca_tls_container_ref",
)


class UnsupportedError(ValueError):
    """Octavia asks for what midoryu does not do."""


def unit_of(balancer: str) -> str:
    """Name the unit of a balancer's rows."""
    return unit.unit(KIND, balancer)


def make_tree(balancer: Fields) -> Tree:
    """Read a load balancer with all that it brings.

    Raises:
        UnsupportedError: a part of it asks too much.
    """
    vips = [balancer["vip_address"]]
    for more in balancer.get("additional_vips") or ():
        if more.get("network_id", balancer["vip_network_id"]) not in (
            None,
            balancer["vip_network_id"],
        ):
            raise UnsupportedError("additional VIPs must be on the VIP's network")
        vips.append(more["ip_address"])
    tree: Tree = {
        "id": balancer["loadbalancer_id"],
        "network": balancer["vip_network_id"],
        "vips": sorted(vips),
        "up": _flag(balancer, "admin_state_up", default=True),
        "listeners": {},
        "pools": {},
    }
    for pool in balancer.get("pools") or ():
        put_pool(tree, pool)
    for listener in balancer.get("listeners") or ():
        if listener.get("default_pool"):
            put_pool(tree, listener["default_pool"])
        put_listener(tree, listener)
    return tree


def change_balancer(tree: Tree, new: Fields) -> None:
    """Take over what changed of the balancer itself."""
    tree["up"] = _flag(new, "admin_state_up", default=tree["up"])


def put_listener(tree: Tree, new: Fields) -> None:
    """Add a listener, or take over what changed of it.

    Raises:
        UnsupportedError: it asks too much.
    """
    _refuse(new, _LISTENER_REFUSED, "listeners")
    if new.get("connection_limit") not in (None, -1):
        raise UnsupportedError("midoryu does not limit connections of a listener")
    old = tree["listeners"].get(new["listener_id"], {"pool": None, "up": True})
    default_pool = (new.get("default_pool") or {}).get("pool_id")
    tree["listeners"][new["listener_id"]] = {
        "protocol": _protocol(new.get("protocol") or old.get("protocol")),
        "port": new.get("protocol_port") or old.get("port"),
        "pool": new.get("default_pool_id", default_pool or old["pool"]),
        "up": _flag(new, "admin_state_up", default=old["up"]),
    }


def put_pool(tree: Tree, new: Fields) -> None:
    """Add a pool with what it brings, or take over what changed of it.

    Raises:
        UnsupportedError: it asks too much.
    """
    _refuse(new, _TLS, "pools")
    fresh: Tree = {"members": {}, "monitor": None, "up": True, "persistence": None}
    old = tree["pools"].get(new["pool_id"], fresh)
    algorithm = new.get("lb_algorithm") or old.get("algorithm")
    if algorithm not in _ALGORITHMS:
        raise UnsupportedError(
            f"algorithm {algorithm} needs what no packet says; midoryu has "
            f"{' and '.join(_ALGORITHMS)}"
        )
    tree["pools"][new["pool_id"]] = {
        **old,
        "protocol": _protocol(new.get("protocol") or old.get("protocol")),
        "algorithm": algorithm,
        "persistence": _persistence(new, old["persistence"]),
        "up": _flag(new, "admin_state_up", default=old["up"]),
    }
    listener = tree["listeners"].get(new.get("listener_id"))
    if listener is not None:
        listener["pool"] = new["pool_id"]
    for member in new.get("members") or ():
        put_member(tree, {**member, "pool_id": new["pool_id"]})
    if new.get("healthmonitor"):
        put_monitor(tree, {**new["healthmonitor"], "pool_id": new["pool_id"]})


def put_member(tree: Tree, new: Fields) -> None:
    """Add a member to its pool, or take over what changed of it.

    Raises:
        UnsupportedError: it asks too much.
    """
    _refuse(new, ("backup", "monitor_address", "monitor_port"), "members")
    if new.get("vnic_type") not in (None, "normal"):
        raise UnsupportedError("members need vnic_type normal")
    members = tree["pools"][new["pool_id"]]["members"]
    old = members.get(new["member_id"], {"weight": 1, "up": True})
    address = new.get("address") or old["address"]
    families = {":" in vip for vip in tree["vips"]}
    if (":" in address) not in families:
        raise UnsupportedError(f"no VIP has the address family of member {address}")
    weight = new.get("weight")
    members[new["member_id"]] = {
        "address": address,
        "port": new.get("protocol_port") or old["port"],
        "weight": min(old["weight"] if weight is None else weight, _MAX_WEIGHT),
        "up": _flag(new, "admin_state_up", default=old["up"]),
    }


def put_monitor(tree: Tree, new: Fields) -> None:
    """Give a pool a health monitor, or take over what changed of it.

    Raises:
        UnsupportedError: it asks too much.
    """
    pool = tree["pools"][new["pool_id"]]
    old = pool["monitor"] or {"path": "/", "codes": ["200"], "up": True}
    kind = new.get("type")
    if kind is not None and kind not in _MONITORS:
        known = ", ".join(_MONITORS)
        raise UnsupportedError(f"monitors of type {kind}: midoryu has {known}")
    if new.get("http_method") not in (None, "GET"):
        raise UnsupportedError(f"monitors ask with GET, not {new['http_method']}")
    if new.get("domain_name"):
        raise UnsupportedError("monitors name no domain")
    codes = new.get("expected_codes")
    numbers = {
        "interval": ("delay", 1000),
        "timeout": ("timeout", 1000),
        "rise": ("max_retries", 1),
        "fall": ("max_retries_down", 1),
    }
    pool["monitor"] = {
        **old,
        **{
            own: new[theirs] * factor
            for own, (theirs, factor) in numbers.items()
            if new.get(theirs) is not None
        },
        "id": new.get("healthmonitor_id", old.get("id")),
        "type": _MONITORS[kind] if kind else old["type"],
        "path": new.get("url_path") or old["path"],
        "codes": codes.replace(" ", "").split(",") if codes else old["codes"],
        "up": _flag(new, "admin_state_up", default=old["up"]),
    }


def delete_listener(tree: Tree, listener: str) -> None:
    """Take a listener away."""
    tree["listeners"].pop(listener, None)


def delete_pool(tree: Tree, pool: str) -> None:
    """Take a pool away; listeners that led to it have none."""
    tree["pools"].pop(pool, None)
    for listener in tree["listeners"].values():
        if listener["pool"] == pool:
            listener["pool"] = None


def items_of_tree(tree: Tree) -> list[Item]:
    """Make the rows of a balancer."""
    name = _PREFIX + tree["id"]
    network = unit.device_name(tree["network"])
    columns = {"name": name, "network": network, "up": tree["up"]}
    text = json.dumps(tree, sort_keys=True)
    items = [labelled(make_item("Load_Balancer", columns), {TREE_KEY: text})]
    for pool_id, pool in tree["pools"].items():
        items += _pool_items(pool_id, pool)
    for listener_id, listener in tree["listeners"].items():
        if listener["up"]:
            items += _listener_items(tree, listener_id, listener)
    return items


def tree_of(row: Any) -> Tree:
    """Read the tree of a Load_Balancer's row."""
    tree: Tree = json.loads(row.external_ids[TREE_KEY])
    return tree


def _pool_items(pool_id: str, pool: Mapping[str, Any]) -> Iterable[Item]:
    name = _PREFIX + pool_id
    affinity = pool["persistence"] or 0
    if pool["algorithm"] == "SOURCE_IP":
        affinity = affinity or _AFFINITY_S
    yield make_item("Pool", {"name": name, "affinity": affinity})
    for member_id, member in pool["members"].items():
        columns = {
            "pool": name,
            "address": member["address"],
            "l4_port": member["port"],
            "weight": member["weight"],
            "up": member["up"] and pool["up"],
        }
        yield labelled(make_item("Pool_Member", columns), {MEMBER_KEY: member_id})
    monitor = pool["monitor"]
    if monitor is not None and monitor["up"]:
        kept = ("type", "path", "interval", "timeout", "rise", "fall")
        columns = {key: monitor[key] for key in kept if key in monitor}
        codes = tuple(sorted(monitor["codes"]))
        yield make_item("Health_Monitor", {"pool": name, "codes": codes, **columns})


def _listener_items(
    tree: Tree, listener_id: str, listener: Mapping[str, Any]
) -> Iterable[Item]:
    pool = listener["pool"]
    name = _PREFIX + (pool or f"listener-{listener_id}")
    if pool not in tree["pools"]:
        # A listener without a pool refuses its clients, as an empty pool does.
        name = f"{_PREFIX}listener-{listener_id}"
        yield make_item("Pool", {"name": name})
    for address in tree["vips"]:
        columns = {
            "balancer": _PREFIX + tree["id"],
            "address": address,
            "ip_proto": PROTOCOLS[listener["protocol"]],
            "l4_port": listener["port"],
            "pool": name,
        }
        yield make_item("Vip", columns)


def _persistence(new: Fields, old: Any) -> Any:
    if "session_persistence" not in new:
        return old
    wish = new["session_persistence"]
    if not wish:
        return None
    if wish.get("type") != "SOURCE_IP":
        raise UnsupportedError(
            f"session persistence {wish.get('type')}: midoryu has SOURCE_IP"
        )
    return int(wish.get("persistence_timeout") or _AFFINITY_S)


def _protocol(name: Any) -> str:
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UnsupportedError(f"protocol {name}: midoryu has {known}")
    return str(name)


def _refuse(new: Fields, words: Iterable[str], of: str) -> None:
    for word in words:
        if new.get(word):
            raise UnsupportedError(f"midoryu does not support {word} of {of}")


def _flag(fields: Fields, word: str, *, default: bool) -> bool:
    value = fields.get(word)
    return default if value is None else bool(value)
