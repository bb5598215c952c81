# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum, whole and incremental, and the CRC32c of SCTP.

Beside `codec`, which verifies with it, and `rewrite` and `build`, which update and
make checksums. A one's complement sum of 16-bit words is a number modulo 65535, and
2**16 is 1 there; so the sum over any even number of bytes is just the remainder of the
bytes read as one big integer. An IPv4-mapped address counts like its IPv4 address,
because its 0xFFFF is a multiple of 65535.
"""

from __future__ import annotations

from typing import Final

from midoryu.packet.protocol import UDP

_MODULUS: Final = 0xFFFF
# RFC 9260, appendix A: Castagnoli's polynomial, bit-reversed.
_CRC32C_POLYNOMIAL: Final = 0x82F63B78


def ones_sum(data: bytes) -> int:
    """Return the one's complement sum of 16-bit words, 0..0xFFFE.

    An odd last byte counts as the high byte of a word.
    Source: RFC 1071, section 1.
    """
    total = int.from_bytes(data, "big")
    return (total << 8 if len(data) & 1 else total) % _MODULUS


def internet_checksum(data: bytes) -> int:
    """Return the checksum over data whose checksum field is zero.

    Source: RFC 1071, section 1.
    """
    remainder = ones_sum(data)
    if remainder:
        return _MODULUS - remainder
    # The sum of anything but zeros is "minus zero", whose complement is 0.
    return 0 if any(data) else _MODULUS


def transport_checksum(ip_src: int, ip_dst: int, ip_proto: int, segment: bytes) -> int:
    """Return the checksum of a segment (its field zero) with its pseudo-header.

    Addresses are 128-bit (IPv4-mapped for IPv4); UDP never gets 0, which means none.
    Source: RFC 9293, section 3.1; RFC 768; RFC 8200, section 8.1.
    """
    total = ip_src + ip_dst + ip_proto + len(segment) + ones_sum(segment)
    checksum = -total % _MODULUS
    return _MODULUS if not checksum and ip_proto == UDP else checksum


def adjust(checksum: int, old: int, new: int) -> int:
    """Return a checksum after some of what it covers changed.

    `old` and `new` are the changed words, read as one integer of any width whose last
    bit is the last bit of a word; differences of several fields may be added up.
    Source: RFC 1624, section 3, equation 3.
    """
    # HC' = ~(~HC + ~m + m'); never all ones, as the covered data is never all zero.
    return (checksum + old - new) % _MODULUS


def crc32c(data: bytes) -> int:
    """Return the CRC32c of SCTP as the integer that stands little-endian on the wire.

    Source: RFC 9260, appendix A.
    """
    crc = 0xFFFF_FFFF
    for octet in data:
        crc = (crc >> 8) ^ _CRC32C_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFF_FFFF


def _crc32c_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)
    return value


_CRC32C_TABLE: Final = tuple(_crc32c_entry(value) for value in range(256))
