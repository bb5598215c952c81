# SPDX-License-Identifier: Apache-2.0
"""The contract with the switch: tables, priorities, registers, cookies, send order.

Everything that two programs must agree on, in one place; `README.md` shows the same
table and a test compares the two.

    in_port = state port ────────────────────────────────► controller (flow state)
                          to the echo's MAC address ─────► back to its sender
    in_port = tunnel port ──► TUNNEL: tunnel_key ────────► the vport's ofport
    in_port = a vport ──────► VPORT:  reactive flows ────► rewrite, tunnel key, output
                              NAT address, port block ───► the uplink's key, its holder
                              miss ─► meter(vport) ──────► controller (simulate)
    in_port = tunnel port, an uplink's key ────────────► VPORT, as if come in there
    anything else ──────────► drop
"""

from __future__ import annotations

from typing import Final, NewType

Ofport = NewType("Ofport", int)
TunnelKey = NewType("TunnelKey", int)
Cookie = NewType("Cookie", int)
TableId = NewType("TableId", int)

# Tables.
CLASSIFY: Final = TableId(0)
VPORT: Final = TableId(10)
TUNNEL: Final = TableId(20)
SIZE: Final = TableId(30)

TABLE_NAMES: Final[dict[int, str]] = {
    CLASSIFY: "CLASSIFY",
    VPORT: "VPORT",
    TUNNEL: "TUNNEL",
    SIZE: "SIZE",
}

# Priorities.
PRIORITY_MISS: Final = 0
# A miss of its own for what floods one destination.
PRIORITY_FLOODED: Final = 10
# Above every miss: flows that no packet meets, but that make the switch look at the
# flags of a TCP segment that misses. What it caches of a SYN ("to the controller") then
# is of no concern for the segments behind it, which would meet it until the switch has
# revalidated its cache, milliseconds after the connection's flow is there.
PRIORITY_APART: Final = 20
PRIORITY_CLASSIFY: Final = 100
PRIORITY_SUBPORT: Final = 110
PRIORITY_HANDED: Final = 110
PRIORITY_ECHO: Final = 110
PRIORITY_REFUSED: Final = 500
PRIORITY_GUARD: Final = 510
PRIORITY_BLOCK: Final = 900
PRIORITY_EXCEPTION: Final = 910
PRIORITY_REACTIVE: Final = 1000
PRIORITY_FORGED: Final = 1100
PRIORITY_TUNNEL: Final = 1000
PRIORITY_SIZE: Final = 1000

# GRE keys (RFC 2890). A vport's key is its number; this one marks flow state.
FLOW_STATE_KEY: Final = TunnelKey(0xFFFFFF)

# Who is asked whether packets reach it and come back: the switch answers by itself.
ECHO_MAC: Final = 0x026D_7200_0003
ECHOED_MAC: Final = 0x026D_7200_0004

# Register 0 counts the TTL decrements tried so far (0 means none or the first), so that
# a packet-in with reason "invalid TTL" tells at which router the packet ended.
REG_HOPS: Final = 0
# Register 1 is 1 for a packet that is larger than its way allows (table SIZE).
REG_TOO_LARGE: Final = 1

#  Cookie, 64 bits:
#   63        56 55      48 47                                  0
#  +------------+----------+-------------------------------------+
#  | 0x6D ("m") |   kind   | number (reactive: serial; base: 0)  |
#  +------------+----------+-------------------------------------+
COOKIE_MARK: Final = 0x6D
COOKIE_BASE: Final = 1
COOKIE_TUNNEL: Final = 2
COOKIE_REACTIVE: Final = 3
COOKIE_BLOCK: Final = 4
COOKIE_KIND_MASK: Final = 0xFFFF_0000_0000_0000


def cookie(kind: int, number: int = 0) -> Cookie:
    """Compose a cookie from its kind and its 48-bit number."""
    return Cookie(COOKIE_MARK << 56 | kind << 48 | number & 0xFFFF_FFFF_FFFF)


def cookie_kind(value: int) -> int:
    """Return the kind in a cookie, 0 for a cookie that is not ours."""
    return (value >> 48) & 0xFF if value >> 56 == COOKIE_MARK else 0


# OpenFlow 1.3, section A.3.4 and A.3.7: reserved ports.
PORT_IN_PORT: Final = Ofport(0xFFFF_FFF8)
PORT_TABLE: Final = Ofport(0xFFFF_FFF9)
PORT_CONTROLLER: Final = Ofport(0xFFFF_FFFD)
PORT_LOCAL: Final = Ofport(0xFFFF_FFFE)
PORT_ANY: Final = Ofport(0xFFFF_FFFF)

# Packet-in reasons, OpenFlow 1.3, section A.4.1.
REASON_NO_MATCH: Final = 0
REASON_ACTION: Final = 1
REASON_INVALID_TTL: Final = 2

# Flow-removed reasons, OpenFlow 1.3, section A.4.2.
REMOVED_IDLE: Final = 0
REMOVED_HARD: Final = 1
REMOVED_DELETE: Final = 2
