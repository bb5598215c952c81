# SPDX-License-Identifier: Apache-2.0
"""What is where: ofports of this host, underlay addresses of the others.

The engine keeps one up to date; `flows` asks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from midoryu.compat import SLOTS
from midoryu.topology.snapshot import Topology


@dataclass(**SLOTS)
class Places:
    """The physical side, as one host sees it."""

    topology: Topology
    """Where vports are, and the underlay addresses of hosts."""
    host: int = 0
    """Key of this host, 0 until the NSDB told."""
    gre_ofport: int = 0
    """Ofport of the tunnel port, 0 while there is none."""
    state_ofport: int = 0
    """Ofport of the flow-state port, 0 while there is none."""
    ofport_by_vport: dict[int, int] = field(default_factory=dict)
    """Local vports that have an interface."""
    vport_by_ofport: dict[int, int] = field(default_factory=dict)
    """The same the other way; sub-ports are in `vport_by_tag` instead."""
    tag_by_vport: dict[int, int] = field(default_factory=dict)
    """VLAN of local sub-ports; their ofport is their parent's."""
    vport_by_tag: dict[tuple[int, int], int] = field(default_factory=dict)
    """(ofport, VLAN) -> sub-port."""
    special: frozenset[int] = frozenset()
    """Local vports whose own flow (limits, copies) all must pass that goes to them."""

    def bind(self, vport: int, ofport: int, vlan: int = 0) -> None:
        """Take over that a local vport has an ofport; a sub-port shares one by VLAN."""
        self.unbind(vport)
        self.ofport_by_vport[vport] = ofport
        if vlan:
            self.tag_by_vport[vport] = vlan
            self.vport_by_tag[ofport, vlan] = vport
        else:
            self.vport_by_ofport[ofport] = vport

    def unbind(self, vport: int) -> Union[int, None]:
        """Forget a local vport; return the ofport that it had, None for none."""
        ofport = self.ofport_by_vport.pop(vport, None)
        if ofport is not None and self.vport_by_ofport.get(ofport) == vport:
            del self.vport_by_ofport[ofport]
        vlan = self.tag_by_vport.pop(vport, 0)
        if ofport is not None and self.vport_by_tag.get((ofport, vlan)) == vport:
            del self.vport_by_tag[ofport, vlan]
        return ofport

    def at(self, vport: int) -> Union[tuple[int, int], None]:
        """Return ofport and VLAN (0 for none) of a local vport, None for no place."""
        ofport = self.ofport_by_vport.get(vport)
        return None if ofport is None else (ofport, self.tag_by_vport.get(vport, 0))

    def underlay(self, host: int) -> int:
        """Return the tunnel address of another host, 0 while unknown."""
        row = self.topology.host(host)
        return row.underlay if row is not None else 0
