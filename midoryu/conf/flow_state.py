# SPDX-License-Identifier: Apache-2.0
"""Options of the group [flow_state]: how connections live and travel."""

from __future__ import annotations

from typing import Any, Final

from oslo_config import cfg

from midoryu.engine.config import EngineConfig
from midoryu.state.connection import Phase

GROUP: Final = cfg.OptGroup("flow_state", title="Flow state of connections")

_LIFETIMES_S: Final = EngineConfig(host="", epoch=0, seed=0).lifetimes_s
# What a lifetime is for, and the least that the standards allow.
_LIFETIME_HELP: Final = {
    Phase.TCP_TRANSITORY: ("a TCP connection being opened", "5382, REQ-5"),
    Phase.TCP_ESTABLISHED: ("an established TCP connection", "5382, REQ-5"),
    Phase.UDP_UNREPLIED: ("a UDP flow without an answer", "4787, REQ-5"),
    Phase.UDP: ("a UDP flow", "4787, REQ-5"),
    Phase.ICMP: ("an ICMP query", "5508, REQ-2"),
    Phase.OTHER: ("a flow of any other protocol", "7857, section 2"),
    Phase.TCP_CLOSING: ("a TCP connection being closed", "7857, section 2.2"),
}


def lifetime_option(phase: Phase) -> str:
    """Name the option that holds the lifetime of a phase."""
    return f"lifetime_{phase.name.lower()}_s"


OPTIONS: Final = [
    cfg.IntOpt(
        "dscp",
        default=46,
        min=0,
        max=63,
        help="DSCP of flow state in the underlay (46 is EF). Give it priority there: "
        "state that comes late costs a packet a second look.",
    ),
    cfg.StrOpt(
        "key_file",
        default="",
        help="File with one key in hexadecimal for each line, 16 to 32 bytes. The "
        "first one signs flow state, all verify; the same on all hosts. It is read "
        "again when it changes, within a second or at SIGHUP; old keys are accepted "
        "for a while. Empty: a built-in key, so that anybody in the underlay could "
        "forge state.",
    ),
    cfg.StrOpt(
        "delivery",
        default="repair",
        choices=("best-effort", "repair", "confirm"),
        help="How much is done for the arrival of flow state. best-effort: sent and "
        "forgotten; a lost packet costs the peer a question when it needs the record. "
        "repair: gaps are noticed and repeated. confirm: each push is acknowledged, "
        "and repeated until it is.",
    ),
    cfg.IntOpt(
        "confirm_interval_ms",
        default=20,
        min=1,
        max=10_000,
        help="Milliseconds until an unconfirmed push is repeated (delivery=confirm).",
    ),
    cfg.IntOpt(
        "confirm_tries",
        default=5,
        min=1,
        max=100,
        help="How often an unconfirmed push is repeated (delivery=confirm).",
    ),
    cfg.IntOpt(
        "hold_first_packet_ms",
        default=0,
        min=0,
        max=10_000,
        help="Milliseconds that a connection's first packet waits at most until all "
        "peers have confirmed its state (delivery=confirm); 0: it never waits.",
    ),
    cfg.IntOpt(
        "beat_interval_ms",
        default=50,
        min=10,
        max=60_000,
        help="Milliseconds between two beats of hosts that share an ingress set. The "
        "same on all of them, or the slower ones are held for dead.",
    ),
    cfg.IntOpt(
        "beat_multiplier",
        default=3,
        min=2,
        max=100,
        help="A host that is silent for so many beats is held for dead, and its "
        "traffic takes other gateways. Too few: a busy host is taken for a dead one.",
    ),
    cfg.StrOpt(
        "journal",
        default="/var/lib/midoryu/journal.db",
        help="File that keeps connection records over a restart of the agent. Empty: "
        "none, so that an agent that restarts has to ask its peers, and connections "
        "between ports of this host alone are forgotten.",
    ),
    cfg.IntOpt(
        "journal_limit_mb",
        default=256,
        min=1,
        max=65536,
        help="Megabytes that the records in the journal take at most (a million of "
        "them need about 120). Above, the oldest are left out.",
    ),
    *(
        cfg.IntOpt(
            lifetime_option(phase),
            default=_LIFETIMES_S[phase],
            min=1,
            max=1_000_000,
            help=f"Seconds without a packet until {what} is forgotten (RFC {source}).",
        )
        for phase, (what, source) in _LIFETIME_HELP.items()
    ),
]


def register_opts(conf: Any) -> None:
    """Register the group and its options."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)
