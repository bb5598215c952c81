# SPDX-License-Identifier: Apache-2.0
"""One wish of the engine (`effect.NsdbWrite`) -> row changes in a transaction.

`writer` keeps the wishes and sends them; here each is put into rows. All are
idempotent: a wish that the database already fulfils changes nothing.
"""

from __future__ import annotations

import random
from typing import Any, Final, Union

from midoryu.engine.effect import (
    ForgetGroup,
    ForgetMac,
    LearnGroup,
    LearnMac,
    LearnNeighbor,
    LeaseBlock,
    NsdbWrite,
    ReleaseBlock,
    SetMemberStatus,
    SetVportReady,
    SetVportStatus,
)
from midoryu.errors import NsdbError
from midoryu.nsdb.replica import Replica
from midoryu.nsdb.schema import BLOCKS, format_station
from midoryu.packet.address import format_ip, format_mac
from midoryu.topology import model
from midoryu.topology.l2 import ROUTERS

# While most blocks are free, guessing finds one faster than listing all.
_GUESSES: Final = 8


class RefusedError(NsdbError):
    """A wish can never be fulfilled."""


class Wish:
    """A write that waits for its transaction."""

    def __init__(self, write: NsdbWrite) -> None:
        self.write = write
        self.attempts = 0
        """Transactions that the server refused because of it."""
        self.block = 0
        """Port block that was chosen for a lease, 0 for none yet."""


def wish_key(write: NsdbWrite) -> tuple[object, ...]:
    """Name the row that a write is about: of two for one row only the last counts."""
    if isinstance(write, (LearnMac, ForgetMac)):
        return "Mac", write.network, write.mac
    if isinstance(write, LearnNeighbor):
        return "Arp", write.router, write.address
    if isinstance(write, (LearnGroup, ForgetGroup)):
        return "Multicast_Member", write.network, write.group, write.vport
    if isinstance(write, SetVportStatus):
        return "Port_Status", write.vport
    if isinstance(write, SetVportReady):
        return "Port_Ready", write.vport
    if isinstance(write, SetMemberStatus):
        return "Member_Status", write.member
    if isinstance(write, ReleaseBlock):
        return "Nat_Lease", write.router, write.address, write.block
    if write.block:
        return "Nat_Lease", write.router, write.address, write.block
    return "Nat_Lease", write.router, write.address


class RowWriter:
    """Puts wishes into the rows of one open transaction."""

    def __init__(self, transaction: Any, replica: Replica, host: str) -> None:
        self._transaction = transaction
        self._idl = transaction.idl
        self._replica = replica
        self._own: Any = self._row("Host", model.Host, host)
        # Blocks that this transaction leases.
        self._taken: set[tuple[int, int, int]] = set()

    def put(self, wish: Wish) -> None:
        """Change rows as a wish asks.

        Raises:
            RefusedError: what it is about does not exist, or no block is free.
        """
        write = wish.write
        if isinstance(write, LearnMac):
            self._learn_mac(write)
        elif isinstance(write, ForgetMac):
            self._forget_mac(write)
        elif isinstance(write, LearnNeighbor):
            self._learn_neighbor(write)
        elif isinstance(write, LearnGroup):
            self._learn_group(write)
        elif isinstance(write, ForgetGroup):
            self._forget_group(write)
        elif isinstance(write, LeaseBlock):
            self._lease(wish, write)
        elif isinstance(write, ReleaseBlock):
            self._release(write)
        elif isinstance(write, SetMemberStatus):
            self._set_member_status(write)
        elif isinstance(write, SetVportReady):
            self._set_ready(write)
        else:
            self._set_status(write)

    def _row(self, table: str, *natural: object) -> Any:
        """Return a row by natural key, None where there is none."""
        uuid = self._replica.uuid(*natural)
        return None if uuid is None else self._idl.tables[table].rows.get(uuid)

    def _need(self, table: str, kind: type, key: int) -> Any:
        row = self._row(table, kind, key)
        if row is None:
            raise RefusedError(f"there is no {table.lower()} with key {key}")
        return row

    def _insert(self, table: str) -> Any:
        return self._transaction.insert(self._idl.tables[table])

    def _learn_mac(self, write: LearnMac) -> None:
        network = self._need("Network", model.Network, write.network)
        port = self._need("Port", model.Vport, write.vport)
        row = self._row("Mac", model.MacEntry, write.network, write.mac)
        if row is None:
            row = self._insert("Mac")
            row.network, row.mac = network, format_station(write.mac)
        row.port = port

    def _forget_mac(self, write: ForgetMac) -> None:
        entry = self._replica.find(model.MacEntry, write.network, write.mac)
        row = self._row("Mac", model.MacEntry, write.network, write.mac)
        if row is not None and isinstance(entry, model.MacEntry):
            if entry.vport != write.vport:
                return  # another vport, maybe of another host, has it by now
            row.verify("port")
            row.delete()

    def _learn_neighbor(self, write: LearnNeighbor) -> None:
        router = self._need("Router", model.Router, write.router)
        row = self._row("Arp", model.Neighbor, write.router, write.address)
        if row is None:
            row = self._insert("Arp")
            row.router, row.address = router, format_ip(write.address)
        row.mac = format_mac(write.mac)

    def _learn_group(self, write: LearnGroup) -> None:
        member = (model.MulticastMember, write.network, write.group, write.vport)
        if self._row("Multicast_Member", *member) is None:
            network = self._need("Network", model.Network, write.network)
            port = self._need("Port", model.Vport, write.vport)
            row = self._insert("Multicast_Member")
            row.network, row.port = network, port
            if write.group != ROUTERS:
                row.address = [format_ip(write.group)]

    def _forget_group(self, write: ForgetGroup) -> None:
        member = (model.MulticastMember, write.network, write.group, write.vport)
        row = self._row("Multicast_Member", *member)
        if row is not None:
            row.delete()

    def _lease(self, wish: Wish, write: LeaseBlock) -> None:
        router = self._need("Router", model.Router, write.router)
        if wish.block and self._holder(write, wish.block) == self._own.key:
            return  # an answer was lost on the way, not the lease
        wish.block = self._free_block(write)
        self._taken.add((write.router, write.address, wish.block))
        row = self._insert("Nat_Lease")
        row.router, row.address = router, format_ip(write.address)
        row.block, row.host = wish.block, self._own

    def _free_block(self, write: LeaseBlock) -> int:
        if write.block:
            if not self._is_free(write, write.block):
                raise RefusedError(f"port block {write.block} is leased")
            return write.block
        for _ in range(_GUESSES):
            block = random.choice(BLOCKS)
            if self._is_free(write, block):
                return block
        free = [block for block in BLOCKS if self._is_free(write, block)]
        if not free:
            raise RefusedError(
                f"every port block of {format_ip(write.address)} is leased"
            )
        return random.choice(free)

    def _is_free(self, write: LeaseBlock, block: int) -> bool:
        taken = (write.router, write.address, block) in self._taken
        return not taken and not self._holder(write, block)

    def _holder(self, write: Union[LeaseBlock, ReleaseBlock], block: int) -> int:
        lease = self._replica.find(model.Lease, write.router, write.address, block)
        return lease.host if isinstance(lease, model.Lease) else 0

    def _release(self, write: ReleaseBlock) -> None:
        if self._holder(write, write.block) == self._own.key:
            lease = (model.Lease, write.router, write.address, write.block)
            self._row("Nat_Lease", *lease).delete()

    def _set_member_status(self, write: SetMemberStatus) -> None:
        member = self._row("Pool_Member", model.PoolMember, write.member)
        if member is None:
            raise RefusedError(f"there is no pool member {write.member}")
        row = self._row("Member_Status", model.MemberStatus, write.member)
        if row is None:
            row = self._insert("Member_Status")
            row.member = member
        row.host, row.up = self._own, write.up

    def _set_ready(self, write: SetVportReady) -> None:
        row = self._row("Port_Ready", model.VportReady, write.vport, self._own.key)
        if write.ready and row is None:
            row = self._insert("Port_Ready")
            row.port = self._need("Port", model.Vport, write.vport)
            row.host = self._own
        elif not write.ready and row is not None:
            row.delete()

    def _set_status(self, write: SetVportStatus) -> None:
        row = self._row("Port_Status", model.VportStatus, write.vport)
        if write.up:
            if row is None:
                row = self._insert("Port_Status")
                row.port = self._need("Port", model.Vport, write.vport)
            row.host, row.up, row.early = self._own, True, write.early
        elif row is not None and row.host.uuid == self._own.uuid:
            row.verify("host")
            row.delete()
