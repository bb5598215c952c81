# SPDX-License-Identifier: Apache-2.0
"""Domain names on the wire: labels of up to 63 bytes, with or without compression.

DNS, DHCP's search lists, DHCPv6 and router advertisements write names alike.

Source: RFC 1035, sections 3.1 and 4.1.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from midoryu.errors import DecodeError

MAX_NAME_BYTES: Final = 255
MAX_LABEL_BYTES: Final = 63


def encode_name(name: str) -> bytes:
    """Write one domain name; a trailing dot says nothing.

    Raises:
        ValueError: a label is empty, too long or not ASCII, or the whole is too long.
    """
    written = bytearray()
    bare = name[:-1] if name.endswith(".") else name
    for label in bare.split(".") if bare else ():
        if not label.isascii() or not 0 < len(label) <= MAX_LABEL_BYTES:
            raise ValueError(f"{name!r} is not a domain name")
        written.append(len(label))
        written += label.encode("ascii")
    written.append(0)
    if len(written) > MAX_NAME_BYTES:
        raise ValueError(f"{name!r} is too long for a domain name")
    return bytes(written)


def encode_names(names: Iterable[str]) -> bytes:
    """Write domain names one after the other, uncompressed.

    Raises:
        ValueError: one is no domain name.

    Source: RFC 3397, section 2; RFC 8415, section 10; RFC 8106, section 5.2.
    """
    return b"".join(map(encode_name, names))


def decode_name(message: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    """Read a name, following pointers that go back.

    Returns:
        The labels, and the offset behind the name.

    Raises:
        DecodeError: it is cut, too long, or points forward or in a circle.
    """
    labels: list[bytes] = []
    end, size, lowest = 0, 1, at
    for _ in range(MAX_NAME_BYTES):
        if at >= len(message):
            raise DecodeError(f"domain name at byte {at}: cut")
        length = message[at]
        if length == 0:
            return tuple(labels), end or at + 1
        if length >> 6 == 3:
            end = end or at + 2
            at = _pointer(message, at, lowest)
            lowest = at
            continue
        size += 1 + length
        if length > MAX_LABEL_BYTES or size > MAX_NAME_BYTES:
            raise DecodeError(f"domain name at byte {at}: too long")
        if at + 1 + length > len(message):
            raise DecodeError(f"domain name at byte {at}: cut")
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
    raise DecodeError(f"domain name at byte {at}: too many labels")


def _pointer(message: bytes, at: int, lowest: int) -> int:
    if at + 1 >= len(message):
        raise DecodeError(f"domain name at byte {at}: cut")
    target = (message[at] & 0x3F) << 8 | message[at + 1]
    if target >= lowest:
        raise DecodeError(f"domain name at byte {at}: does not point back")
    return target


def text_of(labels: Iterable[bytes]) -> str:
    """Return labels as lower-case text without a trailing dot, for comparison.

    Bytes beyond ASCII stay what they are, one character each.
    """
    return ".".join(label.decode("latin-1").lower() for label in labels)
