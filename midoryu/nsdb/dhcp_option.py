# SPDX-License-Identifier: Apache-2.0
"""DHCP options as people write them: `NAME=VALUE` or `NUMBER=VALUE` -> code and data.

Names are those of dnsmasq, which Neutron's `extra_dhcp_opts` use too.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from midoryu.packet.dhcp4 import encode_addresses
from midoryu.packet.name import encode_names

_ADDRESSES: Final = "addresses"
_NAMES: Final = "names"
_TEXT: Final = "text"

# Number and form of what RFC 2132, 3397, 3442, 4578, 5859, 7710 and 7839 name.
_V4: Final[dict[str, tuple[int, str]]] = {
    "netmask": (1, _ADDRESSES),
    "time-offset": (2, "4"),
    "router": (3, _ADDRESSES),
    "dns-server": (6, _ADDRESSES),
    "log-server": (7, _ADDRESSES),
    "hostname": (12, _TEXT),
    "domain-name": (15, _TEXT),
    "root-path": (17, _TEXT),
    "default-ttl": (23, "1"),
    "mtu": (26, "2"),
    "broadcast": (28, _ADDRESSES),
    "ntp-server": (42, _ADDRESSES),
    "netbios-ns": (44, _ADDRESSES),
    "lease-time": (51, "4"),
    "vendor-class": (60, _TEXT),
    "T1": (58, "4"),
    "T2": (59, "4"),
    "tftp-server": (66, _TEXT),
    "bootfile-name": (67, _TEXT),
    "domain-search": (119, _NAMES),
    "classless-static-route": (121, "routes"),
    "tftp-server-address": (150, _ADDRESSES),
    "server-ip-address": (150, _ADDRESSES),
    "path-prefix": (210, _TEXT),
    "wpad": (252, _TEXT),
}
# RFC 8415, 3646, 5908 (by its older sister, RFC 4075), 5970.
_V6: Final[dict[str, tuple[int, str]]] = {
    "dns-server": (23, _ADDRESSES),
    "domain-search": (24, _NAMES),
    "sntp-server": (31, _ADDRESSES),
    "information-refresh-time": (32, "4"),
    "bootfile-url": (59, _TEXT),
}
# Message type, overload and the server's identity are the server's own business.
_RESERVED_V4: Final = frozenset((0, 52, 53, 54, 55, 61, 255))
_RESERVED_V6: Final = frozenset((0, 1, 2, 3, 4, 5, 6, 9, 13, 14))
_MAX_DATA: Final = 1000


def parse_option(text: str, *, v4: bool) -> tuple[int, bytes]:
    """Read an option.

    A value is `0x` and hexadecimal digits; addresses with commas between; or text.
    Options that have a name have that one's form.

    Raises:
        ValueError: it is none, or one that the server alone may send.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not OPTION=VALUE")
    code, form = _code(name.strip(), v4=v4)
    data = _data(value.strip(), form or _form_of(value.strip()), v4=v4)
    if len(data) > _MAX_DATA:
        raise ValueError(f"option {name} has more than {_MAX_DATA} bytes")
    return code, data


def _code(name: str, *, v4: bool) -> tuple[int, str]:
    known = _V4 if v4 else _V6
    if name in known:
        return known[name]
    if not name.isdecimal():
        words = ", ".join(sorted(known))
        raise ValueError(f"{name!r} is no DHCP option: a number, or one of {words}")
    code, reserved = int(name[:6]), _RESERVED_V4 if v4 else _RESERVED_V6
    if code in reserved or code > (254 if v4 else 0xFFFF):
        raise ValueError(f"DHCP option {code} cannot be set")
    return code, next((form for number, form in known.values() if number == code), "")


def _form_of(value: str) -> str:
    try:
        for part in value.split(","):
            ipaddress.ip_address(part.strip())
    except ValueError:
        return _TEXT
    return _ADDRESSES


def _data(value: str, form: str, *, v4: bool) -> bytes:
    if value[:2] in ("0x", "0X"):
        return bytes.fromhex(value[2:])
    if form == _TEXT:
        return value.encode()
    parts = [part.strip() for part in value.split(",")]
    if form == _NAMES:
        return encode_names(parts)
    if form == "routes":
        return _routes(parts)
    if form == _ADDRESSES:
        kind = ipaddress.IPv4Address if v4 else ipaddress.IPv6Address
        return b"".join(kind(part).packed for part in parts)
    size = int(form)
    if not value.isdecimal() or int(value[:12]) >= 1 << 8 * size:
        raise ValueError(f"{value!r} is no number of {size} bytes")
    return int(value).to_bytes(size, "big")


def _routes(parts: list[str]) -> bytes:
    """Read `PREFIX,NEXT HOP,...` (RFC 3442), as dnsmasq writes it."""
    if len(parts) % 2:
        raise ValueError("routes are pairs of a prefix and a next hop")
    data = bytearray()
    for destination, via in zip(parts[::2], parts[1::2]):
        network = ipaddress.IPv4Network(destination)
        data.append(network.prefixlen)
        data += network.network_address.packed[: (network.prefixlen + 7) // 8]
        data += encode_addresses((int(ipaddress.IPv4Address(via)),))
    return bytes(data)
