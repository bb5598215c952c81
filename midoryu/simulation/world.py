# SPDX-License-Identifier: Apache-2.0
"""What a simulation may look at, and the bits that it notes for what it has read.

`walk` has both; whoever runs simulations makes a `World`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Union

from midoryu.packet import field
from midoryu.state.affinity import AffinityTable
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from midoryu.topology.snapshot import Topology

# What must be matched together with each field (OpenFlow 1.3, section 7.2.3.8).
READ_IP_SRC: Final = field.ETH_TYPE | field.IP_SRC
READ_IP_DST: Final = field.ETH_TYPE | field.IP_DST
READ_PROTO: Final = field.ETH_TYPE | field.IP_PROTO
READ_L4_SRC: Final = READ_PROTO | field.L4_SRC
READ_L4_DST: Final = READ_PROTO | field.L4_DST
READ_TUPLE: Final = READ_IP_SRC | READ_IP_DST | READ_L4_SRC | READ_L4_DST


class World(NamedTuple):
    """Everything that a simulation may look at; it changes none of it."""

    topology: Topology
    connections: ConnectionTable
    nat: NatTable
    affinity: Union[AffinityTable, None] = None
    """None where nobody keeps it."""
