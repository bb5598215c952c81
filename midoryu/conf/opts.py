# SPDX-License-Identifier: Apache-2.0
"""All groups together: for the sample generator and for whoever reads options."""

from __future__ import annotations

from typing import Any

from midoryu.conf import agent, flow_state, nsdb, services

_GROUPS = (agent, nsdb, flow_state, services)


def list_opts() -> list[tuple[Any, list[Any]]]:
    """List every option by its group (entry point `oslo.config.opts`)."""
    return [(group.GROUP, list(group.OPTIONS)) for group in _GROUPS]


def register_opts(conf: Any) -> None:
    """Register every group."""
    for group in _GROUPS:
        group.register_opts(conf)


def group_names() -> frozenset[str]:
    """Name the groups that are ours."""
    return frozenset(group.GROUP.name for group in _GROUPS)
