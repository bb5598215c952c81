# SPDX-License-Identifier: Apache-2.0
"""DHCPv4 messages: bytes to a value and back.

Beside `codec`, which stops at the UDP header: only who answers DHCP reads further.

Source: RFC 2131, section 2; RFC 2132; RFC 3396 (long and overloaded options).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from midoryu.compat import SLOTS
from midoryu.errors import DecodeError

SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68
BOOT_REQUEST: Final = 1
BOOT_REPLY: Final = 2
BROADCAST_FLAG: Final = 0x8000

# Message types (RFC 2132, section 9.6).
DISCOVER: Final = 1
OFFER: Final = 2
REQUEST: Final = 3
DECLINE: Final = 4
ACK: Final = 5
NAK: Final = 6
RELEASE: Final = 7
INFORM: Final = 8

# Options (RFC 2132, RFC 3397, RFC 3442).
PAD: Final = 0
SUBNET_MASK: Final = 1
ROUTER: Final = 3
DNS_SERVERS: Final = 6
HOST_NAME: Final = 12
DOMAIN_NAME: Final = 15
INTERFACE_MTU: Final = 26
BROADCAST_ADDRESS: Final = 28
NTP_SERVERS: Final = 42
REQUESTED_ADDRESS: Final = 50
LEASE_TIME: Final = 51
OVERLOAD: Final = 52
MESSAGE_TYPE: Final = 53
SERVER_IDENTIFIER: Final = 54
PARAMETER_LIST: Final = 55
MESSAGE: Final = 56
MAX_SIZE: Final = 57
RENEWAL_TIME: Final = 58
REBINDING_TIME: Final = 59
CLIENT_IDENTIFIER: Final = 61
TFTP_SERVER_NAME: Final = 66
BOOT_FILE: Final = 67
DOMAIN_SEARCH: Final = 119
CLASSLESS_ROUTES: Final = 121
END: Final = 255

MIN_MESSAGE_BYTES: Final = 300
"""BOOTP clients and relays may drop what is shorter (RFC 1542, section 2.1)."""
DEFAULT_MAX_BYTES: Final = 548
"""Message that every client takes: 576 bytes with IP and UDP (RFC 2131, section 2)."""

_HEAD: Final = Struct("!BBBBIHHIIII16s64s128s4s")
_COOKIE: Final = b"\x63\x82\x53\x63"
_ETHERNET: Final = 1


@dataclass(**SLOTS)
class Message:
    """One message; IPv4 addresses are 32-bit here, 0 where there is none."""

    op: int
    """BOOT_REQUEST or BOOT_REPLY."""
    xid: int
    """Transaction id that the client chose."""
    mac: int
    """`chaddr`: the client's 48-bit MAC address."""
    flags: int = 0
    secs: int = 0
    """Seconds since the client began."""
    hops: int = 0
    client: int = 0
    """`ciaddr`: the address that the client has and answers for."""
    yours: int = 0
    """`yiaddr`: the address that the client is given."""
    next_server: int = 0
    """`siaddr`: where to boot from."""
    relay: int = 0
    """`giaddr`."""
    server_name: bytes = b""
    boot_file: bytes = b""
    options: dict[int, bytes] = field(default_factory=dict)
    """Code -> data, in the order of the wire."""

    @property
    def type(self) -> int:
        """DISCOVER and so on; 0 for plain BOOTP."""
        return self.number(MESSAGE_TYPE, 1)

    def number(self, code: int, size: int) -> int:
        """Return an option of `size` bytes as a number, 0 where there is none."""
        data = self.options.get(code, b"")
        return int.from_bytes(data, "big") if len(data) == size else 0


def decode(data: bytes) -> Message:
    """Read the payload of a UDP datagram.

    Raises:
        DecodeError: it is no DHCP message of an Ethernet client.
    """
    if len(data) < _HEAD.size:
        raise DecodeError(f"DHCP: {len(data)} bytes are less than the {_HEAD.size}")
    (op, kind, length, hops, xid, secs, flags, *rest) = _HEAD.unpack_from(data)
    client, yours, server, relay, chaddr, sname, file, cookie = rest
    if cookie != _COOKIE:
        raise DecodeError("DHCP: no magic cookie")
    if op not in (BOOT_REQUEST, BOOT_REPLY):
        raise DecodeError(f"DHCP: op {op}")
    if (kind, length) != (_ETHERNET, 6):
        raise DecodeError(f"DHCP: hardware type {kind} with {length} bytes")
    options: dict[int, bytes] = {}
    _read_options(options, data[_HEAD.size :], "options")
    overload = options.get(OVERLOAD, b"\0")
    if len(overload) != 1 or overload[0] > 3:
        raise DecodeError("DHCP: option 52 is no number from 1 to 3")
    if overload[0] & 1:
        _read_options(options, file, "file")
    if overload[0] & 2:
        _read_options(options, sname, "sname")
    if len(options.get(MESSAGE_TYPE, b"\0")) != 1:
        raise DecodeError("DHCP: option 53 is not one byte")
    return Message(
        op=op,
        xid=xid,
        mac=int.from_bytes(chaddr[:6], "big"),
        flags=flags,
        secs=secs,
        hops=hops,
        client=client,
        yours=yours,
        next_server=server,
        relay=relay,
        server_name=b"" if overload[0] & 2 else sname.partition(b"\0")[0],
        boot_file=b"" if overload[0] & 1 else file.partition(b"\0")[0],
        options=options,
    )


def _read_options(options: dict[int, bytes], data: bytes, where: str) -> None:
    """Add options; one that comes again goes on where it ended (RFC 3396)."""
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        if code == END:
            return
        at += 1
        if code == PAD:
            continue
        if at >= end or at + 1 + data[at] > end:
            raise DecodeError(f"DHCP: option {code} in {where} is cut")
        stop = at + 1 + data[at]
        options[code] = options.get(code, b"") + data[at + 1 : stop]
        at = stop


def encode(message: Message, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """Write a message; options that do not fit any more are left out.

    Options are written in their order, so the ones that matter come first.

    Raises:
        ValueError: a value is out of range.
    """
    head = _HEAD.pack(
        message.op,
        _ETHERNET,
        6,
        message.hops,
        message.xid,
        message.secs,
        message.flags,
        message.client,
        message.yours,
        message.next_server,
        message.relay,
        message.mac.to_bytes(6, "big"),
        message.server_name[:63],
        message.boot_file[:127],
        _COOKIE,
    )
    body = bytearray(head)
    for code, data in message.options.items():
        written = b"".join(_pieces(code, data))
        if len(body) + len(written) < max_bytes:
            body += written
    body.append(END)
    return bytes(body.ljust(MIN_MESSAGE_BYTES, b"\0"))


def _pieces(code: int, data: bytes) -> Iterable[bytes]:
    """Cut an option of more than 255 bytes (RFC 3396, section 5)."""
    if not 0 < code < END:
        raise ValueError(f"DHCP option {code} is not 1 to 254")
    for start in range(0, max(len(data), 1), 255):
        piece = data[start : start + 255]
        yield bytes((code, len(piece))) + piece


def encode_addresses(addresses: Iterable[int]) -> bytes:
    """Write IPv4 addresses (128-bit, IPv4-mapped) as an option's data."""
    return b"".join((a & 0xFFFF_FFFF).to_bytes(4, "big") for a in addresses)


def encode_routes(routes: Mapping[tuple[int, int], int]) -> bytes:
    """Write classless routes.

    Args:
        routes: (IPv4-mapped destination, its IPv4 prefix length) -> next hop;
            a next hop with the low 32 bits zero is the link itself.

    Source: RFC 3442.
    """
    data = bytearray()
    for (destination, length), via in routes.items():
        significant = (length + 7) // 8
        address = (destination & 0xFFFF_FFFF).to_bytes(4, "big")
        data.append(length)
        data += address[:significant] + (via & 0xFFFF_FFFF).to_bytes(4, "big")
    return bytes(data)
