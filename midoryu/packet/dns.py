# SPDX-License-Identifier: Apache-2.0
"""DNS messages, as far as a small server needs them: one question in, answers out.

Answers repeat the question as it came, so a client's own spelling comes back to it.

Source: RFC 1035, section 4; RFC 3596 (AAAA); RFC 6891 (EDNS).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final, Union

from midoryu.compat import SLOTS
from midoryu.errors import DecodeError
from midoryu.packet.address import is_v4
from midoryu.packet.name import decode_name, encode_name, text_of

PORT: Final = 53

# Types and class.
A: Final = 1
PTR: Final = 12
AAAA: Final = 28
OPT: Final = 41
ANY: Final = 255
IN: Final = 1

# Response codes.
NO_ERROR: Final = 0
FORMAT_ERROR: Final = 1
SERVER_FAILURE: Final = 2
NO_SUCH_NAME: Final = 3
NOT_IMPLEMENTED: Final = 4
REFUSED: Final = 5
BAD_VERSION: Final = 16

MIN_UDP_BYTES: Final = 512
"""What everybody takes (RFC 1035, section 4.2.1)."""
# What fits one unfragmented packet of 1280 bytes (RFC 8200, section 5).
MAX_UDP_BYTES: Final = 1232

_HEAD: Final = Struct("!HHHHHH")
_QUESTION: Final = Struct("!HH")
_RECORD: Final = Struct("!HHIH")
_RESPONSE: Final = 0x8000
_AUTHORITATIVE: Final = 0x0400
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_CHECKING_DISABLED: Final = 0x0010
# A pointer to the question's name, right behind the header.
_QUESTION_NAME: Final = b"\xc0\x0c"
_MAX_RECORDS: Final = 64


@dataclass(frozen=True, **SLOTS)
class Query:
    """A question of a client."""

    id: int
    flags: int
    name: str
    """Lower case, without a trailing dot."""
    kind: int
    """A, AAAA and so on."""
    klass: int
    question: bytes
    """The question section as it came."""
    edns: Union[int, None] = None
    """EDNS version, None where the client knows no EDNS."""
    udp_bytes: int = MIN_UDP_BYTES
    """How long an answer may be."""

    @property
    def opcode(self) -> int:
        """0 for a standard query."""
        return self.flags >> 11 & 0xF


def decode_query(data: bytes) -> Query:
    """Read a query.

    Raises:
        DecodeError: it is none, or has not exactly one question.
    """
    if len(data) < _HEAD.size:
        raise DecodeError(f"DNS: only {len(data)} bytes")
    ident, flags, questions, answers, authorities, extras = _HEAD.unpack_from(data)
    if flags & _RESPONSE:
        raise DecodeError("DNS: a response, not a query")
    if questions != 1 or answers or authorities or extras > _MAX_RECORDS:
        raise DecodeError(f"DNS: {questions} questions, {answers} answers")
    labels, at = decode_name(data, _HEAD.size)
    if at + 4 > len(data):
        raise DecodeError("DNS: the question is cut")
    kind, klass = _QUESTION.unpack_from(data, at)
    at += 4
    question = data[_HEAD.size : at]
    edns, udp_bytes = _edns(data, at, extras)
    return Query(ident, flags, text_of(labels), kind, klass, question, edns, udp_bytes)


def _edns(data: bytes, at: int, count: int) -> tuple[Union[int, None], int]:
    edns, udp_bytes = None, MIN_UDP_BYTES
    for _ in range(count):
        _, at = decode_name(data, at)
        if at + _RECORD.size > len(data):
            raise DecodeError("DNS: an additional record is cut")
        kind, klass, ttl, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size + length
        if at > len(data):
            raise DecodeError("DNS: an additional record is cut")
        if kind == OPT:
            edns = ttl >> 16 & 0xFF
            udp_bytes = min(max(klass, MIN_UDP_BYTES), MAX_UDP_BYTES)
    return edns, udp_bytes


def respond(
    query: Query,
    records: Iterable[tuple[int, bytes]] = (),
    *,
    code: int = NO_ERROR,
    authoritative: bool = True,
    recursive: bool = False,
    ttl_s: int = 0,
) -> bytes:
    """Write the answer to a query; what does not fit is left out and said so.

    Args:
        query: what was asked.
        records: (type, data) of each answer about the name that was asked for.
        code: response code; above 15 only for a client that knows EDNS.
        authoritative: the answer is ours, not somebody's cache.
        recursive: other names are looked up too.
        ttl_s: how long answers may be kept.
    """
    flags = _RESPONSE | query.flags & (0x7800 | _RECURSION_DESIRED | _CHECKING_DISABLED)
    flags |= (_AUTHORITATIVE if authoritative else 0) | code & 0xF
    flags |= _RECURSION_AVAILABLE if recursive else 0
    opt = b""
    if query.edns is not None:
        opt = b"\0" + _RECORD.pack(OPT, MAX_UDP_BYTES, code >> 4 << 24, 0)
    size = _HEAD.size + len(query.question) + len(opt)
    answers: list[bytes] = []
    for kind, data in records:
        answer = _QUESTION_NAME + _RECORD.pack(kind, IN, ttl_s, len(data)) + data
        size += len(answer)
        if size > query.udp_bytes:
            flags |= _TRUNCATED
            break
        answers.append(answer)
    head = _HEAD.pack(query.id, flags, 1, len(answers), 0, 1 if opt else 0)
    return head + query.question + b"".join(answers) + opt


def refuse_garbage(data: bytes) -> bytes:
    """Answer what is no query with a format error; empty where it cannot be answered.

    Source: RFC 1035, section 4.1.1.
    """
    if len(data) < _HEAD.size:
        return b""
    ident, flags = _HEAD.unpack_from(data)[:2]
    if flags & _RESPONSE:
        return b""
    flags = _RESPONSE | flags & (0x7800 | _RECURSION_DESIRED) | FORMAT_ERROR
    return _HEAD.pack(ident, flags, 0, 0, 0, 0)


def fits(answer: bytes, query: Query) -> bytes:
    """Check an answer that another server gave, and cut it to what the client takes.

    Raises:
        DecodeError: it is no answer to the query.
    """
    if len(answer) < _HEAD.size:
        raise DecodeError(f"DNS: an answer of {len(answer)} bytes")
    ident, flags, questions = _HEAD.unpack_from(answer)[:3]
    if ident != query.id or not flags & _RESPONSE:
        raise DecodeError("DNS: not the answer to this query")
    if questions == 1:
        labels, at = decode_name(answer, _HEAD.size)
        asked = answer[at : at + 4]
        if text_of(labels) != query.name or asked != query.question[-4:]:
            raise DecodeError("DNS: the answer to another question")
    if len(answer) <= query.udp_bytes:
        return answer
    head = _HEAD.pack(query.id, flags | _TRUNCATED, 1, 0, 0, 0)
    return head + query.question


def address_record(address: int) -> tuple[int, bytes]:
    """Return type and data of the record of an address."""
    if is_v4(address):
        return A, (address & 0xFFFF_FFFF).to_bytes(4, "big")
    return AAAA, address.to_bytes(16, "big")


def pointer_record(name: str) -> tuple[int, bytes]:
    """Return type and data of a record that names an address.

    Raises:
        ValueError: it is no domain name.
    """
    return PTR, encode_name(name)


def reverse_address(name: str) -> int:
    """Return the address that a name under `in-addr.arpa` or `ip6.arpa` stands for.

    Returns:
        128 bits; 0 for any other name.

    Source: RFC 1035, section 3.5; RFC 3596, section 2.5.
    """
    labels = name.split(".")
    if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
        parts = labels[3::-1]
        if all(p.isdecimal() and len(p) <= 3 and int(p) <= 255 for p in parts):
            return 0xFFFF << 32 | int.from_bytes(bytes(map(int, parts)), "big")
    if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
        digits = labels[31::-1]
        if all(len(d) == 1 and d in "0123456789abcdef" for d in digits):
            return int("".join(digits), 16)
    return 0
