# SPDX-License-Identifier: Apache-2.0
"""When is a lab ready? When each agent has its host's vports up and hears its peers.

`lab` waits on it and shows it in `status`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Optional

from midoryu.lab.error import LabError
from midoryu.lab.host import HostNode

_POLL_S = 0.2
_LOG_LINES = 20


class Readiness:
    """Compares what should be plugged in with what the agents report."""

    def __init__(self, hosts: Mapping[str, HostNode]) -> None:
        self.hosts = hosts

    def wait(self, timeout_s: float) -> None:
        """Wait until every agent has all its vports up and has heard all others.

        Until then the userspace datapath may lose the first packet to a peer.

        Raises:
            LabError: an agent ended, or not all are up in time; with its log's end.
        """
        deadline = time.monotonic() + timeout_s
        waiting = list(self.hosts.values())
        while waiting:
            for node in waiting:
                if not node.is_running("agent"):
                    raise _failure(node, "the agent ended")
            waiting = [node for node in waiting if self.missing(node)]
            if waiting and time.monotonic() > deadline:
                missing = ", ".join(self.missing(waiting[0]))
                reason = f"after {timeout_s:g} s still missing: {missing}"
                raise _failure(waiting[0], reason)
            if waiting:
                time.sleep(_POLL_S)

    def missing(self, node: HostNode) -> list[str]:
        """Return what is not there yet on a host: `agent`, vports, or peers."""
        up = self.vports_of(node)
        if up is None:
            return ["agent"]
        wanted = [plug.vport for plug in node.spec.plugs(node.name) if plug.vport]
        vports = [f"vport {vport}" for vport in wanted if vport not in up]
        return vports or self._silent_peers(node)

    def _silent_peers(self, node: HostNode) -> list[str]:
        try:
            peers = node.agent_query("peers", {}, timeout_s=2.0)
        except LabError:
            return ["agent"]
        return [
            f"word from {name}"
            for name in self.hosts
            if name != node.name and not peers.get(name, {}).get("answered")
        ]

    def vports_of(self, node: HostNode) -> Optional[list[str]]:
        """Return the vports that the agent has up; None while it does not answer."""
        try:
            answer = node.agent_query("vports", {}, timeout_s=2.0)
        except LabError:
            return None
        rows = answer if isinstance(answer, list) else []
        return [str(row["vport"]) for row in rows if row.get("ofport", 0) > 0]


def _failure(node: HostNode, reason: str) -> LabError:
    log = "\n".join(node.log_lines()[-_LOG_LINES:]) or "(empty)"
    return LabError(f"{node.name}: {reason}; the end of its log:\n{log}")
