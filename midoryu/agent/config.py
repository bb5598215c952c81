# SPDX-License-Identifier: Apache-2.0
"""What an agent must be told at its start, as one frozen value.

`cmd` makes it from the configuration files; nothing in this room reads options.
"""

from __future__ import annotations

from dataclasses import dataclass

from midoryu.compat import SLOTS
from midoryu.engine.config import EngineConfig
from midoryu.ovs.settings import OvsSettings


@dataclass(frozen=True, **SLOTS)
class NsdbSettings:
    """How to reach the NSDB."""

    connection: str
    """Comma-separated OVSDB remotes."""
    private_key: str = ""
    """PEM file, "" for none."""
    certificate: str = ""
    """PEM file, "" for none."""
    ca_cert: str = ""
    """PEM file, "" for none."""


@dataclass(frozen=True, **SLOTS)
class AgentConfig:
    """Everything an agent needs to know."""

    engine: EngineConfig
    """For the core."""
    ovs: OvsSettings
    """For the local OVS."""
    nsdb: NsdbSettings
    """For the shared database."""
    underlay: int
    """Tunnel endpoint of this host, 128-bit."""
    control_socket: str
    """Path of the unix socket for `midoryu-ctl flow-state`."""
    key_file: str = ""
    """File with the keys of flow state, "" for the built-in one."""
    journal: str = ""
    """File of the connection records' journal, "" for none."""
    journal_limit_bytes: int = 256 << 20
    """What its records may take."""
    metadata_command: tuple[str, ...] = ()
    """Runs this host's metadata proxy, which the agent keeps alive; () for none."""
    warnings: tuple[str, ...] = ()
    """What the operator should know about these settings."""
