# SPDX-License-Identifier: Apache-2.0
"""Options of the group [services]: what networks answer with this host's help."""

from __future__ import annotations

from typing import Any, Final

from oslo_config import cfg, types

GROUP: Final = cfg.OptGroup("services", title="DHCP, DNS and the like for networks")

OPTIONS: Final = [
    cfg.ListOpt(
        "dns_forwarders",
        default=[],
        item_type=types.IPAddress(),
        bounds=False,
        help="DNS servers that this host can reach, asked for names that a network's "
        "resolver does not know and whose subnet names no `forward`. Without any, such "
        "queries are refused.",
    ),
]


def register_opts(conf: Any) -> None:
    """Register the group's options."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)
