# SPDX-License-Identifier: Apache-2.0
"""`ryu-manager`: Ryu's own, made to start on today's Python and to know our options.

Runs any Ryu application. For `midoryu.agent` it reads and judges our options first and
sets Ryu's listener from them, so that a wrong file is told in one line.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

from midoryu.errors import ConfigError

_AGENT = "midoryu.agent"
_LOOPBACK = "127.0.0.1"
_LINE = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
# Whoever keeps the system's log adds the time and the host.
_SYSLOG_LINE = "ryu-manager[%(process)d]: %(levelname)s %(name)s: %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"


def main(args: list[str] | None = None) -> None:
    """Run applications until they end."""
    arguments = sys.argv[1:] if args is None else args
    manager = _manager()
    if _names_agent(arguments):
        try:
            _configure_agent(manager, arguments)
        except ConfigError as error:
            _refuse(str(error))
    _complete_log_lines(manager)
    manager.main(args=arguments, prog=os.path.basename(sys.argv[0]) or "ryu-manager")


def _manager() -> Any:
    """Import Ryu's manager, or one around os_ken, which has none since release 4."""
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        import eventlet.wsgi

        # Ryu 4.34 imports this name, which eventlet dropped; any value does.
        if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
            eventlet.wsgi.ALREADY_HANDLED = object()
        try:
            from ryu.cmd import manager
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "ryu":
                raise
            from midoryu.cmd import osken_manager as manager
        if "--enable-debugger" not in sys.argv:
            # Ryu does this later, and eventlet then complains about locks of the
            # interpreter's own that it cannot replace; they are never contended here.
            eventlet.monkey_patch(thread=True)
    return manager


def _complete_log_lines(manager: Any) -> None:
    """Let Ryu's log handlers write time, level and logger, not only the message."""
    init_log = manager.log.init_log

    def init_complete_log() -> None:
        init_log()
        for handler in logging.getLogger().handlers:
            if handler.formatter is None:
                is_syslog = isinstance(handler, logging.handlers.SysLogHandler)
                line = _SYSLOG_LINE if is_syslog else _LINE
                handler.setFormatter(logging.Formatter(line, _TIME))

    manager.log.init_log = init_complete_log


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _names_agent(arguments: list[str]) -> bool:
    return any(_AGENT in argument.split(",") for argument in arguments)


def _configure_agent(manager: Any, arguments: list[str]) -> None:
    """Read our options, set Ryu's listener, give the agent its configuration."""
    from oslo_config import cfg

    from midoryu.conf import opts

    # Ryu logs at DEBUG until it has read its options; a refusal shall be one line.
    logging.getLogger().setLevel(logging.WARNING)
    conf = manager.CONF
    opts.register_opts(conf)
    try:
        conf(
            args=arguments,
            project="midoryu",
            prog=os.path.basename(sys.argv[0]) or "ryu-manager",
            version=f"ryu-manager {manager.version}",
            default_config_files=[],
        )
    except (cfg.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    from midoryu.agent import MidoryuAgent
    from midoryu.cmd.agent_config import agent_config

    config = agent_config(conf)
    conf.set_override("ofp_listen_host", _LOOPBACK)
    conf.set_override("ofp_tcp_listen_port", config.ovs.openflow_port)
    MidoryuAgent.config = config


def _refuse(message: str) -> NoReturn:
    print(f"ryu-manager: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
