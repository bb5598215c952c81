# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 messages between client and server: bytes to a value and back.

The IPv6 sister of `dhcp4`. Relay messages are not for a server on the link.

Source: RFC 8415, sections 8 and 21; RFC 3646; RFC 5908; RFC 5970.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from midoryu.compat import SLOTS
from midoryu.errors import DecodeError

SERVER_PORT: Final = 547
CLIENT_PORT: Final = 546
ALL_SERVERS: Final = 0xFF02 << 112 | 0x1_0002
"""All_DHCP_Relay_Agents_and_Servers, ff02::1:2."""

# Message types (RFC 8415, section 7.3).
SOLICIT: Final = 1
ADVERTISE: Final = 2
REQUEST: Final = 3
CONFIRM: Final = 4
RENEW: Final = 5
REBIND: Final = 6
REPLY: Final = 7
RELEASE: Final = 8
DECLINE: Final = 9
INFORMATION_REQUEST: Final = 11
_LAST_CLIENT_SERVER: Final = 11

# Options (RFC 8415, section 21, and the RFCs above).
CLIENT_ID: Final = 1
SERVER_ID: Final = 2
IA_NA: Final = 3
IA_TA: Final = 4
IA_ADDRESS: Final = 5
STATUS: Final = 13
RAPID_COMMIT: Final = 14
DNS_SERVERS: Final = 23
DOMAIN_LIST: Final = 24
IA_PD: Final = 25
NTP_SERVER: Final = 56
BOOT_FILE_URL: Final = 59
_NTP_ADDRESS: Final = 1

# Status codes (RFC 8415, section 21.13).
SUCCESS: Final = 0
NO_ADDRESSES: Final = 2
NO_BINDING: Final = 3
NOT_ON_LINK: Final = 4
NO_PREFIX: Final = 6

_OPTION: Final = Struct("!HH")
_IA: Final = Struct("!III")
_IA_ADDRESS: Final = Struct("!16sII")
_DUID_LL: Final = Struct("!HH6s")
# RFC 8415, section 11.1: type code and at most 128 bytes.
_DUID_BYTES: Final = range(3, 131)
_MAX_OPTIONS: Final = 64

Options = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, **SLOTS)
class Association:
    """An IA_NA: addresses that one interface of a client holds together."""

    id: int
    """32-bit IAID that the client chose."""
    addresses: tuple[int, ...] = ()
    """128-bit addresses in it."""


@dataclass(frozen=True, **SLOTS)
class Message:
    """A message of a client or server."""

    type: int
    xid: int
    """24-bit transaction id."""
    options: Options = ()
    """(code, data) in the order of the wire."""

    def get(self, code: int) -> bytes | None:
        """Return the data of the first option of a code, None where there is none."""
        return next((data for this, data in self.options if this == code), None)

    def associations(self) -> tuple[Association, ...]:
        """Read every IA_NA.

        Raises:
            DecodeError: one is cut.
        """
        return tuple(_association(data) for code, data in self.options if code == IA_NA)


def decode(data: bytes) -> Message:
    """Read the payload of a UDP datagram.

    Raises:
        DecodeError: it is no message between client and server.
    """
    if len(data) < 4:
        raise DecodeError(f"DHCPv6: only {len(data)} bytes")
    kind = data[0]
    if not 0 < kind <= _LAST_CLIENT_SERVER:
        raise DecodeError(f"DHCPv6: message type {kind}")
    message = Message(kind, int.from_bytes(data[1:4], "big"), tuple(_options(data[4:])))
    for code in (CLIENT_ID, SERVER_ID):
        duid = message.get(code)
        if duid is not None and len(duid) not in _DUID_BYTES:
            raise DecodeError(f"DHCPv6: DUID of {len(duid)} bytes")
    message.associations()
    return message


def _options(data: bytes) -> Iterable[tuple[int, bytes]]:
    at = count = 0
    while at < len(data):
        count += 1
        if at + 4 > len(data) or count > _MAX_OPTIONS:
            raise DecodeError(f"DHCPv6: options are cut at byte {at}, or too many")
        code, length = _OPTION.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise DecodeError(f"DHCPv6: option {code} is cut")
        yield code, data[at : at + length]
        at += length


def _association(data: bytes) -> Association:
    if len(data) < _IA.size:
        raise DecodeError("DHCPv6: IA_NA is cut")
    addresses: list[int] = []
    for code, body in _options(data[_IA.size :]):
        if code != IA_ADDRESS:
            continue
        if len(body) < _IA_ADDRESS.size:
            raise DecodeError("DHCPv6: IA address is cut")
        addresses.append(int.from_bytes(body[:16], "big"))
    return Association(int.from_bytes(data[:4], "big"), tuple(addresses))


def encode(message: Message) -> bytes:
    """Write a message."""
    head = bytes((message.type,)) + message.xid.to_bytes(3, "big")
    return head + encode_options(message.options)


def encode_options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """Write options one after the other."""
    return b"".join(_OPTION.pack(code, len(data)) + data for code, data in options)


def encode_association(
    iaid: int, addresses: Iterable[tuple[int, int]], *, lease_s: int, status: int
) -> bytes:
    """Write the data of an IA_NA.

    Args:
        iaid: of the client.
        addresses: (address, its lifetime in seconds; 0 takes it away).
        lease_s: what T1 and T2 are a half and four fifths of (RFC 8415, 14.2).
        status: SUCCESS is not written, the others are.
    """
    options = [
        (IA_ADDRESS, _IA_ADDRESS.pack(address.to_bytes(16, "big"), life, life))
        for address, life in addresses
    ]
    if status:
        options.append((STATUS, encode_status(status)))
    times = (0, 0) if status else (lease_s // 2, lease_s * 4 // 5)
    return _IA.pack(iaid, *times) + encode_options(options)


def refusals(message: Message) -> Iterable[tuple[int, bytes]]:
    """Answer what nobody gives here: temporary addresses and delegated prefixes.

    Source: RFC 8415, sections 18.3.9 and 21.21; an IA_TA has no times (21.5).
    """
    for code, data in message.options:
        if code == IA_TA and len(data) >= 4:
            yield (
                code,
                data[:4] + encode_options([(STATUS, encode_status(NO_ADDRESSES))]),
            )
        elif code == IA_PD and len(data) >= _IA.size:
            status = encode_options([(STATUS, encode_status(NO_PREFIX))])
            yield code, data[:4] + bytes(8) + status


def encode_status(status: int) -> bytes:
    """Write the data of a status code option, without text."""
    return status.to_bytes(2, "big")


def encode_addresses(addresses: Iterable[int]) -> bytes:
    """Write addresses one after the other."""
    return b"".join(address.to_bytes(16, "big") for address in addresses)


def encode_ntp(addresses: Iterable[int]) -> bytes:
    """Write the data of an NTP server option (RFC 5908, section 4.1)."""
    return encode_options((_NTP_ADDRESS, a.to_bytes(16, "big")) for a in addresses)


def link_layer_duid(mac: int) -> bytes:
    """Return the DUID made of an Ethernet address (RFC 8415, section 11.4)."""
    return _DUID_LL.pack(3, 1, mac.to_bytes(6, "big"))
