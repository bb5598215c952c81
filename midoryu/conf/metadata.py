# SPDX-License-Identifier: Apache-2.0
"""Options of the group [metadata]: how a host's metadata proxy reaches Nova."""

from __future__ import annotations

from typing import Any, Final

from oslo_config import cfg

GROUP: Final = cfg.OptGroup("metadata", title="The metadata proxy of one host")

OPTIONS: Final = [
    cfg.URIOpt(
        "nova_url",
        default="http://127.0.0.1:8775",
        schemes=["http", "https"],
        help="Nova's metadata API, reachable from this host. With a wrong one "
        "instances get an error for every request.",
    ),
    cfg.StrOpt(
        "shared_secret",
        default="",
        secret=True,
        help="Nova's [neutron] metadata_proxy_shared_secret. Required: Nova refuses "
        "what another secret signed.",
    ),
    cfg.FloatOpt(
        "timeout_s",
        default=60.0,
        min=1.0,
        max=600.0,
        help="Seconds that Nova may take for an answer.",
    ),
]


def register_opts(conf: Any) -> None:
    """Register the group and its options."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[Any, list[Any]]]:
    """List the options by their group (entry point `oslo.config.opts`)."""
    return [(GROUP, list(OPTIONS))]
