# SPDX-License-Identifier: Apache-2.0
"""What the drivers' commands share: Neutron's options, plugins and database."""

from __future__ import annotations

import sys
from typing import Any, Final

from neutron import manager
from neutron.common import config as neutron_config
from neutron_lib.plugins import directory
from oslo_config import cfg

from midoryu.errors import ConfigError
from midoryu.neutron import mech
from midoryu.neutron.sync import Synchronizer

_CONFIG: Final = ("/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini")


def load(config_files: list[str]) -> Synchronizer:
    """Read Neutron's configuration and load its plugins, without any server.

    Raises:
        ConfigError: a file cannot be read or has a wrong value.
    """
    files = config_files or list(_CONFIG)
    arguments = [f"--config-file={file}" for file in files]
    neutron_config.register_common_config_options()
    try:
        neutron_config.init(arguments, default_config_files=[])
        neutron_config.setup_logging()
    except (cfg.Error, OSError) as problem:
        raise ConfigError(" ".join(str(problem).split())) from problem
    # Nothing that these commands do is news for Nova or for a message bus.
    cfg.CONF.set_override("notify_nova_on_port_status_changes", False)
    cfg.CONF.set_override("notify_nova_on_port_data_changes", False)
    manager.init()
    drivers: Any = directory.get_plugin().mechanism_manager.mech_drivers
    if mech.NAME not in drivers:
        raise ConfigError("[ml2] mechanism_drivers does not name midoryu")
    found: Synchronizer = drivers[mech.NAME].obj.sync
    return found


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
