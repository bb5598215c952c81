# SPDX-License-Identifier: Apache-2.0
"""The state packet: headers, authentication, and packing entries up to the MTU.

`entry` knows what entries mean; `session` decides what to send.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2s
from hmac import compare_digest
from typing import Final, NamedTuple

from midoryu.compat import SLOTS
from midoryu.errors import DecodeError
from midoryu.replication.entry import Context, Entry, decode_entries

VERSION: Final = 1

#  The frame travels inside the tunnel with key 0xFFFFFF (openflow.pipeline), and all
#  that OVS and tcpdump see of it is fixed:
#
#   0        Ethernet  02:6d:72:00:00:02 <- 02:6d:72:00:00:01, 0x0800
#   14       IPv4      169.254.109.1 -> 169.254.109.2, no options, DF, TTL 255, UDP
#   34       UDP       28018 -> 28018 ("mr"), no checksum
#   42       payload:
#
#   0        8       16              31
#   +--------+--------+--------+--------+
#   |version | flags  |    reserved     |
#   +--------+--------+--------+--------+
#   |        sender's host key          |
#   |       receiver's host key         |
#   |         sender's epoch            |
#   |  receiver's epoch, 0 if unknown   |
#   |             sequence              |  this one's (NUMBERED), or the last one sent
#   |           acknowledged            |  everything up to here arrived
#   +--------+--------+--------+--------+
#   |  entries ...                      |
#   +--------+--------+--------+--------+
#   |  tag, 16 bytes: BLAKE2s over the  |
#   |  payload up to here               |
#   +--------+--------+--------+--------+
ETHERNET: Final = bytes.fromhex("026d72000002 026d72000001 0800")
IPV4_SOURCE: Final = bytes((169, 254, 109, 1))
IPV4_DESTINATION: Final = bytes((169, 254, 109, 2))
UDP_PORT: Final = 0x6D72
HEADERS_BYTES: Final = 14 + 20 + 8
PAYLOAD_HEADER: Final = struct.Struct("!BBHIIIIII")
TAG_BYTES: Final = 16
# Outer headers at most: IPv6 (40), UDP (8), VXLAN or Geneve (8); GRE needs less.
TUNNEL_BYTES: Final = 56
# Largest frame that is looked at at all.
MAX_FRAME_BYTES: Final = 9216

# Flags. NUMBERED: one of the stream, delivered once and repaired.
NUMBERED: Final = 0x01
# CONFIRM: acknowledge at once.
CONFIRM: Final = 0x02
# UNREPAIRED: the sender keeps nothing for repeats, so there is nothing to ask for.
UNREPAIRED: Final = 0x04

_SERIAL: Final = 1 << 32
_MIN_PAYLOAD: Final = PAYLOAD_HEADER.size + TAG_BYTES
_BLAKE2S_KEY_BYTES: Final = 32
# Sum of the IPv4 header's 16-bit words but for the total length.
_IPV4_SUM: Final = 0x4500 + 0x4000 + 0xFF11 + 2 * 0xA9FE + 0x6D01 + 0x6D02


class Refusal(Enum):
    """Why a frame was not taken; each is counted on its own."""

    NOT_STATE = "not a state packet"
    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    VERSION = "unknown version"
    TAG = "wrong authentication tag"
    RECEIVER = "for another host"
    MALFORMED = "malformed entries"
    OWN = "sent by this host's own key"
    STALE_SENDER = "from an earlier life of the sender"
    STALE_RECEIVER = "to an earlier life of this host"
    DUPLICATE = "seen before"
    UNKNOWN_PEER = "too many unknown peers"


class StatePacketError(DecodeError):
    """A frame on the state port is not a state packet for this host."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal.value}: {detail}" if detail else refusal.value)
        self.refusal = refusal
        """The cause."""


class Header(NamedTuple):
    """The head of a state packet."""

    sender: int
    """Host key."""
    receiver: int
    """Host key."""
    epoch: int
    """Of the sender: larger at each start of its agent."""
    receiver_epoch: int
    """Of the receiver, as the sender knows it; 0 for unknown."""
    sequence: int
    """Number of this datagram, or of the last numbered one; modulo 2**32."""
    acknowledged: int
    """The sender has everything up to this number; modulo 2**32."""
    flags: int = 0
    """NUMBERED, CONFIRM, UNREPAIRED."""


@dataclass(frozen=True, **SLOTS)
class Message:
    """A state packet, decoded."""

    header: Header
    entries: tuple[Entry, ...]


class Signer:
    """Computes and checks tags: the first key signs, every key verifies.

    Args:
        keys: at least one; an empty key makes tags that anybody can make. Keys longer
            than 32 bytes are hashed first.

    Source: RFC 7693, section 2.9 (keyed BLAKE2).
    """

    __slots__ = ("_states",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.set_keys(keys)

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Put other keys in the place of these, at once."""
        if not keys:
            raise ValueError("no key for the authentication of flow state")
        self._states = [
            blake2s(
                digest_size=TAG_BYTES,
                key=key if len(key) <= _BLAKE2S_KEY_BYTES else blake2s(key).digest(),
                person=b"midoryu1",
            )
            for key in keys
        ]

    def tag(self, data: bytes) -> bytes:
        """Return the tag of a payload."""
        state = self._states[0].copy()
        state.update(data)
        return state.digest()

    def verify(self, data: memoryview, tag: bytes) -> bool:
        """Tell whether any key made the tag."""
        for key_state in self._states:
            state = key_state.copy()
            state.update(data)
            if compare_digest(state.digest(), tag):
                return True
        return False


def widen(serial: int, near: int) -> int:
    """Return the number nearest to `near` that has these low 32 bits (RFC 1982)."""
    distance = (serial - near) % _SERIAL
    return near + (distance if distance < _SERIAL // 2 else distance - _SERIAL)


def entries_bytes(mtu_bytes: int) -> int:
    """Return the room for entries in one packet over an underlay with this MTU."""
    return mtu_bytes - TUNNEL_BYTES - HEADERS_BYTES - _MIN_PAYLOAD


def pack(entries: Iterable[bytes], room_bytes: int) -> Iterator[bytes]:
    """Join encoded entries into as few packets' worth as fit, in their order."""
    batch: list[bytes] = []
    size = 0
    for entry in entries:
        if batch and size + len(entry) > room_bytes:
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(entry)
        size += len(entry)
    if batch:
        yield b"".join(batch)


def encode(header: Header, entries: bytes, signer: Signer) -> bytes:
    """Build the frame of a state packet from its head and its encoded entries."""
    payload = (
        PAYLOAD_HEADER.pack(
            VERSION,
            header.flags,
            0,
            header.sender,
            header.receiver,
            header.epoch,
            header.receiver_epoch,
            header.sequence & 0xFFFF_FFFF,
            header.acknowledged & 0xFFFF_FFFF,
        )
        + entries
    )
    return _headers(len(payload) + TAG_BYTES) + payload + signer.tag(payload)


def decode(frame: bytes, host: int, signer: Signer, now: float) -> Message:
    """Read a frame that came in at the state port.

    Raises:
        StatePacketError: the frame is no state packet for this host; says why.
    """
    length = len(frame)
    if length > MAX_FRAME_BYTES:
        raise StatePacketError(Refusal.OVERSIZED, f"{length} bytes")
    if not frame.startswith(ETHERNET[: min(length, 14)]):
        raise StatePacketError(Refusal.NOT_STATE)
    if length < HEADERS_BYTES + _MIN_PAYLOAD:
        raise StatePacketError(Refusal.TRUNCATED, f"{length} bytes")
    if not frame.startswith(_headers(length - HEADERS_BYTES)):
        raise StatePacketError(*_explain_headers(frame))
    view = memoryview(frame)
    payload, tag = view[HEADERS_BYTES:-TAG_BYTES], frame[-TAG_BYTES:]
    if payload[0] != VERSION:
        raise StatePacketError(Refusal.VERSION, f"{payload[0]}")
    if not signer.verify(payload, tag):
        raise StatePacketError(Refusal.TAG)
    _, flags, _, sender, receiver, *rest = PAYLOAD_HEADER.unpack_from(payload)
    epoch, receiver_epoch, sequence, acknowledged = rest
    header = Header(
        sender, receiver, epoch, receiver_epoch, sequence, acknowledged, flags
    )
    if header.receiver != host:
        raise StatePacketError(Refusal.RECEIVER, f"host {header.receiver}")
    body, context = payload[PAYLOAD_HEADER.size :], Context(header.sender, now)
    try:
        return Message(header, tuple(decode_entries(body, context)))
    except StatePacketError:
        raise
    except DecodeError as error:
        raise StatePacketError(Refusal.MALFORMED, str(error)) from error


def _headers(payload_bytes: int) -> bytes:
    """Build the Ethernet, IPv4 and UDP headers in front of a payload."""
    total = payload_bytes + 28
    checksum = _IPV4_SUM + total
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    checksum = 0xFFFF ^ ((checksum & 0xFFFF) + (checksum >> 16))
    return _HEADERS.pack(
        ETHERNET,
        0x4500,
        total,
        0,
        0x4000,
        0xFF11,
        checksum,
        IPV4_SOURCE,
        IPV4_DESTINATION,
        UDP_PORT,
        UDP_PORT,
        payload_bytes + 8,
        0,
    )


_HEADERS: Final = struct.Struct("!14sHHHHHH4s4sHHHH")


def _explain_headers(frame: bytes) -> tuple[Refusal, str]:
    """Say in which way a frame's fixed headers are wrong."""
    if not frame.startswith(_headers(0)[:16]):
        return Refusal.NOT_STATE, "other addresses"
    (total,) = struct.unpack_from("!H", frame, 16)
    if total + 14 > len(frame):
        return Refusal.TRUNCATED, f"{len(frame)} of {total + 14} bytes"
    if total + 14 < len(frame):
        return Refusal.OVERSIZED, f"{len(frame)} instead of {total + 14} bytes"
    return Refusal.NOT_STATE, "other addresses"
