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
    """The same the other way."""

    def bind(self, vport: int, ofport: int) -> None:
        """Take over that a local vport has an ofport."""
        self.unbind(vport)
        self.ofport_by_vport[vport] = ofport
        self.vport_by_ofport[ofport] = vport

    def unbind(self, vport: int) -> Union[int, None]:
        """Forget a local vport; return the ofport that it had, None for none."""
        ofport = self.ofport_by_vport.pop(vport, None)
        if ofport is not None and self.vport_by_ofport.get(ofport) == vport:
            del self.vport_by_ofport[ofport]
        return ofport

    def underlay(self, host: int) -> int:
        """Return the tunnel address of another host, 0 while unknown."""
        row = self.topology.host(host)
        return row.underlay if row is not None else 0
