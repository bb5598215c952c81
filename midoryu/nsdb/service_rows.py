# SPDX-License-Identifier: Apache-2.0
"""Rows of subnets -> values, and what ports have for DHCP and DNS.

`rows` has the converters of other tables, and calls these.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from midoryu.nsdb.dhcp_option import parse_option
from midoryu.nsdb.l2_rows import number
from midoryu.packet.address import Prefix, parse_ip, parse_prefix
from midoryu.packet.name import encode_name
from midoryu.topology.service import (
    DEFAULT_LEASE_S,
    DEFAULT_PREFERRED_S,
    DEFAULT_RA_INTERVALS_S,
    DEFAULT_VALID_S,
    Advertising,
    Preference,
    RaMode,
    Subnet,
)

# RFC 1123, section 2.1; service names have underscores (RFC 8552).
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_PREFERENCES: Final = {"": Preference.MEDIUM, **{p.name.lower(): p for p in Preference}}


def subnet(row: Any) -> Subnet:
    """Make the value of a `Subnet` row.

    Raises:
        ValueError: a column does not make sense.
    """
    prefix = parse_prefix(row.prefix)
    value = Subnet(
        key=str(row.uuid),
        network=row.network.key,
        prefix=prefix,
        gateway=_address(row.gateway),
        dns=addresses(_text(row.dns)),
        domain=name(_text(row.domain)),
        search=tuple(map(name, _text(row.search).split())),
        ntp=tuple(sorted(map(parse_ip, row.ntp))),
        routes=tuple(sorted(map(route, row.routes))),
        mtu=number(row.mtu),
        dhcp=row.dhcp,
        lease_s=number(row.lease_s, DEFAULT_LEASE_S),
        server=_address(row.server),
        boot_file=_text(row.boot_file),
        boot_server=_address(row.boot_server),
        advertising=_advertising(row),
        resolver=_address(row.resolver),
        forward=addresses(_text(row.forward)),
    )
    options = _options(row.options, v4=value.is_v4)
    if value.is_v4 and value.dhcp and not (value.server or value.gateway):
        raise ValueError("answers DHCP, but has neither gateway nor server address")
    if value.is_v4 and value.advertising.mode is not RaMode.NONE:
        raise ValueError("router advertisements are for IPv6")
    return replace(value, options=options)


def vport_options(row: Any) -> dict[str, Any]:
    """Read what `model.Vport` has for DHCP and DNS.

    Raises:
        ValueError: an option or the name is none; a metadata port that is bound.
    """
    if row.metadata and (not row.mac or row.peer or not row.network or row.host):
        raise ValueError("is a metadata port, so it has a network, a MAC and no host")
    return {
        "hostname": name(_text(row.hostname)),
        "dhcp_options": _options(row.dhcp_options, v4=True),
        "dhcp6_options": _options(row.dhcp6_options, v4=False),
        "metadata": row.metadata,
    }


def _advertising(row: Any) -> Advertising:
    intervals = (
        number(row.ra_min_s, DEFAULT_RA_INTERVALS_S[0]),
        number(row.ra_max_s, DEFAULT_RA_INTERVALS_S[1]),
    )
    return Advertising(
        mode=RaMode(_text(row.ra_mode)),
        intervals_s=(min(intervals), intervals[1]),
        lifetime_s=number(row.ra_lifetime_s, -1),
        preference=_PREFERENCES[_text(row.ra_preference)],
        valid_s=number(row.ra_valid_s, DEFAULT_VALID_S),
        preferred_s=number(row.ra_preferred_s, DEFAULT_PREFERRED_S),
    )


def name(text: str) -> str:
    """Read a domain name, "" for none: letters, digits, hyphens, underscores.

    Raises:
        ValueError: it is none.
    """
    encode_name(text)
    labels = text.rstrip(".").split(".") if text else []
    if not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{text!r} is not a domain name")
    return text


def addresses(text: str) -> tuple[int, ...]:
    """Read addresses with spaces between.

    Raises:
        ValueError: one is none.
    """
    return tuple(map(parse_ip, text.split()))


def route(text: str) -> tuple[Prefix, int]:
    """Read `PREFIX via NEXT_HOP`.

    Raises:
        ValueError: it is not that.
    """
    destination, via, hop = text.partition(" via ")
    if not via:
        raise ValueError(f"{text!r} is not PREFIX via NEXT_HOP")
    return parse_prefix(destination), parse_ip(hop)


def _options(texts: list[str], *, v4: bool) -> tuple[tuple[int, bytes], ...]:
    return tuple(sorted(parse_option(text, v4=v4) for text in texts))


def _text(column: list[str]) -> str:
    return column[0] if column else ""


def _address(column: list[str]) -> int:
    return parse_ip(column[0]) if column else 0
