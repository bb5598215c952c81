# SPDX-License-Identifier: Apache-2.0
"""The interface that has the tunnel endpoint: how large its packets may be.

The kernel is asked, as it has the interface whatever the datapath is; `cmd` does so
once, at the start.

Source: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final, Union

_DEVICES: Final = Path("/sys/class/net")
# linux/rtnetlink.h, linux/netlink.h, linux/if_addr.h.
_RTM_GETADDR: Final = 22
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
# Length, type, flags, sequence number, port.
_HEADER: Final = Struct("=IHHII")
# Family, prefix length, flags, scope, index.
_IFADDR: Final = Struct("=BBBBI")
_ATTRIBUTE: Final = Struct("=HH")
_REPLY_BYTES: Final = 1 << 16
_TIMEOUT_S: Final = 5.0


def interface_mtu(local_ip: str) -> Union[tuple[str, int], None]:
    """Find the interface that has an address.

    Returns:
        Its name and its MTU in bytes; None where none has the address, or the kernel
        does not say.
    """
    try:
        index = _index_of(ipaddress.ip_address(local_ip).packed)
        if not index:
            return None
        name = socket.if_indextoname(index)
        return name, int((_DEVICES / name / "mtu").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _index_of(address: bytes) -> int:
    for index, attributes in _addresses():
        found = dict(attributes)
        # A point-to-point link has its peer under IFA_ADDRESS.
        if found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS)) == address:
            return index
    return 0


def _addresses() -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """Yield (interface, attributes) of every address that the kernel has."""
    body = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    size = _HEADER.size + len(body)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
    ) as link:
        link.settimeout(_TIMEOUT_S)
        link.send(_HEADER.pack(size, _RTM_GETADDR, flags, 1, 0) + body)
        while True:
            reply, at = link.recv(_REPLY_BYTES), 0
            while at + _HEADER.size <= len(reply):
                length, kind, *_ = _HEADER.unpack_from(reply, at)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                    return
                start = at + _HEADER.size
                index = _IFADDR.unpack_from(reply, start)[4]
                yield index, list(_attributes(reply, start + _IFADDR.size, at + length))
                at += (length + 3) & ~3


def _attributes(reply: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(reply, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, reply[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
