# SPDX-License-Identifier: Apache-2.0
"""Interior links of a topology file: find or make the other end of each.

`topology_file` has read the ports; afterwards every linked port has its peer.
"""

from __future__ import annotations

import hashlib

from midoryu.nsdb.draft import Draft, PortDraft
from midoryu.packet.address import format_mac


def stable_mac(name: str) -> int:
    """Return a locally administered MAC address that depends on a name only.

    Source: IEEE 802, section 8.4 (the second lowest bit of the first octet).
    """
    digest = hashlib.blake2s(name.encode(), digest_size=5).digest()
    return 0x02 << 40 | int.from_bytes(digest, "big")


def join_links(draft: Draft) -> None:
    """Give every linked port its peer; a port that only one side names is made."""
    linked = [port for port in draft.ports.values() if port.link_device]
    for port in linked:
        if port.link_port and port.peer is None:
            _join_named(draft, port)
    for port in sorted(linked, key=lambda port: port.full_name):
        if port.peer is None and not port.link_port:
            _join_unnamed(draft, port)


def _join_named(draft: Draft, port: PortDraft) -> None:
    other = draft.ports.get((port.link_device, port.link_port))
    if other is None:
        other = _make_peer(draft, port, port.link_port)
    elif other is port:
        port.entry.report("is linked to itself")
        return
    elif not _may_be_peer(other, port):
        wanted = "router" if port.is_router else "network"
        port.entry.report(
            f"{other.full_name} is no peer of it; write "
            f"`{wanted}: {port.device}, peer: {port.name}` there"
        )
        return
    _join(port, other)


def _may_be_peer(other: PortDraft, port: PortDraft) -> bool:
    return (
        other.link_device == port.device
        and other.link_port in ("", port.name)
        and other.peer in (None, port)
    )


def _join_unnamed(draft: Draft, port: PortDraft) -> None:
    """Name the other end after this device, as in `tenant` or `tenant-web`."""
    names = [port.device, f"{port.device}-{port.name}"]
    names += [f"{names[1]}-{number}" for number in range(2, 1000)]
    for name in names:
        other = draft.ports.get((port.link_device, name))
        if other is None:
            _join(port, _make_peer(draft, port, name))
            return
        if other.link_device == port.device and _may_be_peer(other, port):
            _join(port, other)
            return
    port.entry.report(f"no name is left on {port.link_device}")


def _make_peer(draft: Draft, port: PortDraft, name: str) -> PortDraft:
    peer = PortDraft(port.link_device, name, port.link_is_router, port.entry)
    mac = format_mac(stable_mac(peer.full_name)) if peer.is_router else None
    peer.columns = {"mac": mac, "interface_id": peer.full_name}
    peer.link_device, peer.link_is_router = port.device, port.is_router
    draft.ports[peer.device, peer.name] = peer
    return peer


def _join(port: PortDraft, other: PortDraft) -> None:
    port.peer, other.peer = other, port
