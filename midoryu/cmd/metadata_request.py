# SPDX-License-Identifier: Apache-2.0
"""One metadata request: who asks, and how Nova is asked for it.

Pure. `metadata` has the sockets.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Union

from midoryu.compat import SLOTS

_INSTANCE: Final = "neutron:device_id"
_PROJECT: Final = "neutron:project_id"
# RFC 9110, section 7.6.1: they are about one connection.
_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "host",
    )
)
# What the proxy says; an instance that says it lies.
_OURS: Final = "x-"


@dataclass(frozen=True, **SLOTS)
class Instance:
    """Who asks."""

    ident: str
    project: str


def instance_at(
    ports: Iterable[Any], network: str, address: str
) -> Union[Instance, None]:
    """Find the instance that has an address on a network.

    Args:
        ports: rows of ports.
        network: name of the network's row.
        address: the source address of the request, without its scope; a link-local
            one is found by the MAC address in it (RFC 4291, appendix A).
    """
    for row in ports:
        if not row.network or row.network[0].name != network:
            continue
        ident = row.external_ids.get(_INSTANCE, "")
        if ident and (address in row.addresses or address == _link_local(row)):
            return Instance(ident, row.external_ids.get(_PROJECT, ""))
    return None


def forwarded_headers(
    headers: Mapping[str, str], instance: Instance, *, address: str, secret: str
) -> dict[str, str]:
    """Return the headers that Nova gets.

    Source: Nova, `nova.api.metadata.handler` (X-Instance-ID-Signature is HMAC-SHA256).
    """
    kept = {
        name: value
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP and not name.lower().startswith(_OURS)
    }
    # AWS's token header is the instance's own.
    kept.update(
        {n: v for n, v in headers.items() if n.lower().startswith("x-aws-ec2-")}
    )
    signature = hmac.new(secret.encode(), instance.ident.encode(), hashlib.sha256)
    return {
        **kept,
        "X-Forwarded-For": address,
        "X-Instance-ID": instance.ident,
        "X-Tenant-ID": instance.project,
        "X-Instance-ID-Signature": signature.hexdigest(),
    }


def answered_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of Nova's answer that the instance gets."""
    return [(n, v) for n, v in headers if n.lower() not in _HOP_BY_HOP]


def _link_local(row: Any) -> str:
    if not row.mac:
        return ""
    parts = [int(part, 16) for part in row.mac[0].split(":")]
    first = parts[0] ^ 2
    words = [
        first << 8 | parts[1],
        parts[2] << 8 | 0xFF,
        0xFE00 | parts[3],
        parts[4] << 8 | parts[5],
    ]
    value = 0xFE80 << 112
    for number, word in enumerate(words):
        value |= word << 16 * (3 - number)
    return str(ipaddress.IPv6Address(value))
