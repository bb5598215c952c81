# SPDX-License-Identifier: Apache-2.0
"""What `ryu.cmd.manager` does, for os_ken, which has no manager since release 4."""

from __future__ import annotations

import logging
import os
from typing import Any

# Before the first import of os_ken's hub, which is made of threads otherwise.
os.environ.setdefault("OSKEN_HUB_TYPE", "eventlet")

from os_ken import __version__ as version
from os_ken import cfg, flags, log
from os_ken.base.app_manager import AppManager
from os_ken.controller import controller
from os_ken.lib import hub

# All but threads, as Ryu's manager does ("thread=True" would mean threads alone).
hub.patch(thread=False)

CONF: Any = cfg.CONF
CONF.register_cli_opts(
    [
        cfg.ListOpt("app-lists", default=[], help="application modules to run"),
        cfg.MultiStrOpt("app", positional=True, default=[], help="application module"),
        cfg.StrOpt("pid-file", default=None, help="pid file name"),
    ]
)
__all__ = ["CONF", "controller", "flags", "main", "version"]


def main(args: list[str] | None = None, prog: str | None = None) -> None:
    """Run applications until they end."""
    CONF(
        args=args,
        prog=prog,
        project="os_ken",
        version=f"ryu-manager (os_ken {version})",
        default_config_files=[],
    )
    log.init_log()
    logging.getLogger(__name__).debug("os_ken %s", version)
    if CONF.pid_file:
        with open(CONF.pid_file, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    AppManager.run_apps(CONF.app_lists + CONF.app or ["os_ken.controller.ofp_handler"])
