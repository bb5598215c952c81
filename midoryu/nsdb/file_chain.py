# SPDX-License-Identifier: Apache-2.0
"""The sections `chains` and `groups` of a topology file.

`topology_file` calls it before it reads devices.
"""

from __future__ import annotations

import re
from typing import Final, Union

from midoryu.nsdb.document import Entry
from midoryu.nsdb.draft import Draft, reference
from midoryu.nsdb.item import RuleColumns, Value, make_rule
from midoryu.nsdb.schema import format_ports, ports_from_text
from midoryu.packet import protocol
from midoryu.packet.address import parse_prefix
from midoryu.topology.model import CT_STATES

PROTOCOLS: Final = {
    "tcp": protocol.TCP,
    "udp": protocol.UDP,
    "icmp": protocol.ICMP,
    "icmpv6": protocol.ICMPV6,
    "sctp": protocol.SCTP,
}
ETHERTYPES: Final = {
    "ipv4": protocol.ETH_IPV4,
    "ipv6": protocol.ETH_IPV6,
    "arp": protocol.ETH_ARP,
}
WITH_PORTS: Final = (protocol.TCP, protocol.UDP, protocol.SCTP)
_VERDICTS: Final = ("accept", "drop", "reject", "return")
_PREFIXES: Final = {"from": "source", "to": "destination"}
_PORTS: Final = {"from_port": "source_ports", "to_port": "destination_ports"}
RULE_FIELDS: Final = (
    *_VERDICTS,
    "jump",
    "ct",
    "proto",
    "ethertype",
    "from",
    "not_from",
    "to",
    "not_to",
    "from_group",
    "to_group",
    "from_port_group",
    "to_port_group",
    "from_port",
    "not_from_port",
    "to_port",
    "not_to_port",
    "icmp_type",
    "icmp_code",
    "log",
    "stateless",
)


def read_groups(draft: Draft) -> None:
    """Read the address groups."""
    for name, entry in draft.groups.items():
        prefixes = [item.parsed(parse_prefix) for item in entry.items()]
        members = tuple(sorted({str(prefix) for prefix in prefixes if prefix}))
        draft.add("Address_Group", {"name": name, "members": members}, entry)


def read_chains(draft: Draft) -> None:
    """Read the chains; chains that jump in a circle are a problem."""
    jumps: dict[str, list[tuple[str, Entry]]] = {}
    for name, entry in draft.chains.items():
        fields = entry.fields(("policy", "keep_live", "rules"))
        policy = (
            fields["policy"].choice(("accept", "drop")) if "policy" in fields else ""
        )
        entries = list(fields["rules"].list_items()) if "rules" in fields else []
        rules = tuple(_read_rule(draft, rule) for rule in entries)
        columns: dict[str, Value] = {
            "name": name,
            "policy": policy or "accept",
            "keep_live": "keep_live" in fields and fields["keep_live"].boolean(),
            "rules": rules,
        }
        draft.add("Chain", columns, entry)
        jumps[name] = [
            (str(dict(rule)["jump"]), place)
            for rule, place in zip(rules, entries)
            if dict(rule)["jump"]
        ]
    _check_circles(jumps)


def parse_protocol(text: str) -> int:
    """Read a protocol's name or number.

    Raises:
        ValueError: it is neither.
    """
    return _word_or_number(text, PROTOCOLS, 0xFF, "protocol")


def _parse_ethertype(text: str) -> int:
    return _word_or_number(text, ETHERTYPES, 0xFFFF, "ethertype")


def _word_or_number(text: str, words: dict[str, int], highest: int, what: str) -> int:
    if text.lower() in words:
        return words[text.lower()]
    is_number = re.fullmatch(r"\d{1,5}|0[xX][0-9a-fA-F]{1,4}", text)
    number = int(text, 16 if text[1:2] in ("x", "X") else 10) if is_number else 0
    if not 0 < number <= highest:
        known = ", ".join(words)
        raise ValueError(f"{text!r} is no {what}: {known}, or 1 to {highest}")
    return number


def _read_rule(draft: Draft, entry: Entry) -> RuleColumns:
    fields = entry.fields(RULE_FIELDS)
    columns: dict[str, object] = _read_action(draft, entry, fields)
    if "ct" in fields:
        columns["ct_states"] = tuple(
            sorted({item.choice(CT_STATES) for item in fields["ct"].items()})
        )
    if "ethertype" in fields:
        columns["eth_type"] = fields["ethertype"].parsed(_parse_ethertype)
    if "proto" in fields:
        columns["ip_proto"] = fields["proto"].parsed(parse_protocol)
    for word, column in _PREFIXES.items():
        _read_negatable(fields, word, columns, column)
        if f"{word}_group" in fields:
            group = reference(fields[f"{word}_group"], draft.groups, "group")
            columns[f"{column}_group"] = group
        _read_port_group(draft, fields, word, columns, column)
    for word, column in _PORTS.items():
        _read_negatable(fields, word, columns, column)
    _read_icmp(fields, columns)
    if "log" in fields:
        columns["log"] = fields["log"].text() or None
    if "stateless" in fields:
        columns["stateless"] = fields["stateless"].boolean()
        if columns["stateless"] and columns["action"] != "accept":
            fields["stateless"].report("belongs to a rule that accepts")
    return make_rule(columns)


def _read_port_group(
    draft: Draft,
    fields: dict[str, Entry],
    word: str,
    columns: dict[str, object],
    column: str,
) -> None:
    entry = fields.get(f"{word}_port_group")
    if entry is None:
        return
    if f"{word}_group" in fields:
        entry.report(f"stands beside `{word}_group`; use one of the two")
    group = reference(entry, draft.port_groups, "port group")
    columns[f"{column}_port_group"] = group


def _read_action(
    draft: Draft, entry: Entry, fields: dict[str, Entry]
) -> dict[str, object]:
    actions = [word for word in (*_VERDICTS, "jump") if word in fields]
    if len(actions) != 1:
        known = "accept, drop, reject, return: true, or jump: CHAIN"
        entry.report(f"needs one action of {known}; has {len(actions)}")
        return {"action": "drop"}
    word = actions[0]
    if word == "jump":
        return {"action": word, "jump": reference(fields[word], draft.chains, "chain")}
    if not fields[word].boolean(default=True):
        fields[word].report("an action is written `true`")
    return {"action": word}


def _read_negatable(
    fields: dict[str, Entry], word: str, columns: dict[str, object], column: str
) -> None:
    negative = f"not_{word}"
    if word in fields and negative in fields:
        fields[negative].report(f"stands beside `{word}`; use one of the two")
    entry = fields.get(word) or fields.get(negative)
    if entry is None:
        return
    read = _ports if word in _PORTS else _prefixes
    columns[column] = read(entry)
    columns[f"not_{column}"] = negative in fields
    if word in _PORTS and columns.get("ip_proto") not in WITH_PORTS:
        entry.report("needs `proto: tcp`, `udp` or `sctp` in the rule")


def _ports(entry: Entry) -> tuple[str, ...]:
    found = [item.parsed(ports_from_text) for item in entry.items()]
    return _any_of(entry, [format_ports(ports) for ports in found if ports])


def _prefixes(entry: Entry) -> tuple[str, ...]:
    found = [item.parsed(parse_prefix) for item in entry.items()]
    return _any_of(entry, [str(prefix) for prefix in found if prefix])


def _any_of(entry: Entry, texts: list[str]) -> tuple[str, ...]:
    if not texts:
        # An empty condition would match everything, which nobody means.
        entry.report("names nothing")
    return tuple(sorted(set(texts)))


def _read_icmp(fields: dict[str, Entry], columns: dict[str, object]) -> None:
    icmp = (protocol.ICMP, protocol.ICMPV6)
    for word in ("icmp_type", "icmp_code"):
        if word not in fields:
            continue
        columns[word] = fields[word].integer(0, 255)
        if columns.get("ip_proto") not in icmp:
            fields[word].report("needs `proto: icmp` or `icmpv6` in the rule")


def _check_circles(jumps: dict[str, list[tuple[str, Entry]]]) -> None:
    done: set[str] = set()
    for start in jumps:
        _walk(start, jumps, done)


def _walk(
    start: str, jumps: dict[str, list[tuple[str, Entry]]], done: set[str]
) -> None:
    """Go depth first without recursion, so that no file can overflow the stack."""
    trail: list[tuple[str, int]] = [(start, 0)]
    on_trail = {start}
    while trail:
        name, index = trail.pop()
        targets: Union[list[tuple[str, Entry]], tuple[()]] = jumps.get(name, ())
        if name in done or index == len(targets):
            done.add(name)
            on_trail.discard(name)
            continue
        trail.append((name, index + 1))
        target, entry = targets[index]
        if target in on_trail:
            entry.report(f"chains jump in a circle, back to {target!r}")
        elif target not in done:
            trail.append((target, 0))
            on_trail.add(target)
