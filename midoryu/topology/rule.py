# SPDX-License-Identifier: Apache-2.0
"""Chains of rules as immutable values: what filters say.

Rows of `model`, which has them all; `chains` compiles them, `simulation.filter` asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from midoryu.compat import SLOTS
from midoryu.packet.address import Prefix


class RuleAction(Enum):
    """What a matching rule does."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    JUMP = "jump"
    RETURN = "return"


# Connection states of a rule, as a bit set.
CT_NEW: Final = 1
CT_ESTABLISHED: Final = 2
CT_RELATED: Final = 4
CT_INVALID: Final = 8
CT_STATES: Final[dict[str, int]] = {
    "new": CT_NEW,
    "established": CT_ESTABLISHED,
    "related": CT_RELATED,
    "invalid": CT_INVALID,
}
PortRange = tuple[int, int]


@dataclass(frozen=True, **SLOTS)
class Rule:
    """One rule of a chain; every condition given must hold (a `not_` one must not)."""

    action: RuleAction
    jump: str = ""
    """Chain to go to when the action is JUMP."""
    ct_states: int = 0
    """Bit set of CT_*; 0 asks nothing and reads no connection state."""
    eth_type: int = 0
    """0 for any."""
    ip_proto: int = 0
    """0 for any."""
    source: tuple[Prefix, ...] = ()
    """Any of these; () for any source."""
    not_source: bool = False
    destination: tuple[Prefix, ...] = ()
    not_destination: bool = False
    source_group: str = ""
    """Address group or port group that holds the source; "" for any."""
    destination_group: str = ""
    source_ports: tuple[PortRange, ...] = ()
    """Inclusive ranges; () for any."""
    not_source_ports: bool = False
    destination_ports: tuple[PortRange, ...] = ()
    not_destination_ports: bool = False
    icmp_type: int = -1
    """-1 for any."""
    icmp_code: int = -1
    """-1 for any."""
    log: str = ""
    """Name under which the agent logs what the rule decides; "" for not at all."""
    stateless: bool = False
    """What it accepts is not tracked on account of its chain."""


@dataclass(frozen=True, **SLOTS)
class Chain:
    """An ordered list of rules."""

    key: str
    name: str
    rules: tuple[Rule, ...] = ()
    accept: bool = True
    """What happens to a packet that no rule decided, when no chain jumped here."""
    keep_live: bool = False
    """A connection that was let in stays in when rules or groups change."""
