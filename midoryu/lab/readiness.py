# SPDX-License-Identifier: Apache-2.0
"""When is a lab ready? When each agent has every vport of its host up.

`lab` waits on it and shows it in `status`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from midoryu.lab.database import NsdbNode
from midoryu.lab.error import LabError
from midoryu.lab.host import HostNode

_POLL_S = 0.2


class Readiness:
    """Compares what should be plugged in with what the agents report."""

    def __init__(self, hosts: Mapping[str, HostNode], nsdb: NsdbNode) -> None:
        self.hosts = hosts
        self.nsdb = nsdb

    def wait(self, timeout_s: float) -> None:
        """Wait until every agent has all its vports up.

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
                reason = f"after {timeout_s:g} s still not up: {missing}"
                raise _failure(waiting[0], reason)
            if waiting:
                time.sleep(_POLL_S)

    def missing(self, node: HostNode) -> list[str]:
        """Return what is not up yet on a host: `agent`, or iface-ids."""
        up = self.vports_of(node)
        if up is None:
            return ["agent"]
        return [p.iface_id for p in node.spec.plugs(node.name) if p.iface_id not in up]

    def vports_of(self, node: HostNode) -> list[str] | None:
        """Return the iface-ids that the agent has up; None while it does not answer."""
        try:
            answer = node.agent_query("vports", {}, timeout_s=2.0)
        except LabError:
            return None
        return [str(row) for row in answer] if isinstance(answer, list) else []


def _failure(node: HostNode, reason: str) -> LabError:
    return LabError(f"{node.name}: {reason}; the end of its log:\n{node.log_tail()}")
