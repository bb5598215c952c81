# SPDX-License-Identifier: Apache-2.0
"""Live migration: a vport has an interface at two hosts, and one of them carries.

Until its machine has moved, its old host carries. The new one holds the interface shut:
it hears announcements and drops all else, and says that it is ready. It takes over when
the machine announces itself there (RARP, ARP, a neighbour advertisement), or when the
row's `host` names it. Then `change_lane` binds the vport as any other, and `membership`
brings its records; while it waits, the new host is in the vport's interested set, so
most are there already.

`early` in the vport's status remembers who took over before it was bound, also through
a restart. A host that gave a vport up takes it back by its row only: what its interface
still sends is an echo.

Source: QEMU's announce-self (RARP); ovn-nb(5), `activation-strategy`; RFC 5227, 3.
"""

from __future__ import annotations

from typing import Final

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, SetVportReady
from midoryu.engine.event import PacketIn
from midoryu.topology.model import Vport, VportReady, VportStatus

_ETH_SRC: Final = slice(6, 12)
_INFO: Final = 20


def carries(core: Core, vport: Vport) -> bool:
    """Tell whether a vport that has an interface here is this host's."""
    if vport.migrating_to in (0, vport.host):
        return vport.host in (0, core.host)
    status = core.topology.row(VportStatus, vport.key)
    is_taken = (
        status is not None
        and status.up
        and status.early
        and status.host == vport.migrating_to
    )
    if vport.migrating_to == core.host:
        return is_taken or vport.key in core.taken
    return vport.host in (0, core.host) and not is_taken


def is_early(core: Core, key: int) -> bool:
    """Tell whether a vport is carried here though it is bound to another host."""
    vport = core.topology.vport(key)
    return vport is not None and vport.migrating_to == core.host != vport.host


def refresh(core: Core, effects: Effects) -> None:
    """Take over which interfaces wait here for their machines, and say so."""
    here = {
        vport.key: (vport, ofport)
        for iface_id, ofport in core.interfaces.items()
        if (vport := core.topology.vport_by_iface_id(iface_id)) is not None
    }
    core.given_up &= here.keys() - core.places.ofport_by_vport.keys()
    core.taken &= {key for key in here if is_early(core, key)}
    core.awaited = {
        ofport: key
        for key, (vport, ofport) in here.items()
        if is_early(core, key) and key not in core.given_up and not carries(core, vport)
    }
    _say(core, effects)


def hear(core: Core, event: PacketIn) -> None:
    """Note a machine that announces itself where it was awaited."""
    key = core.awaited[event.in_port]
    vport = core.topology.vport(key)
    source = int.from_bytes(event.frame[_ETH_SRC], "big")
    if vport is None or vport.mac not in (0, source):
        core.counters["announcements of somebody else"] += 1
        return
    core.taken.add(key)
    core.arrivals.append(event)


def _say(core: Core, effects: Effects) -> None:
    """Make the NSDB say what is awaited here."""
    said = {
        row.vport for row in core.topology.rows(VportReady) if row.host == core.host
    }
    ready = set(core.awaited.values())
    for key in sorted(ready - said):
        name = core.topology.vport_name(key)
        effects.log.append((_INFO, f"vport {name} (key {key}) may come here"))
        effects.nsdb_writes.append(SetVportReady(key, True))
    effects.nsdb_writes.extend(
        SetVportReady(key, False) for key in sorted(said - ready)
    )
