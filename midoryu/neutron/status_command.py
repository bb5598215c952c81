# SPDX-License-Identifier: Apache-2.0
"""`midoryu-status upgrade check`: whether an upgrade may go on, as OpenStack asks it.

Exit codes are oslo.upgradecheck's: 0 success, 1 a warning, 2 a failure.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, Final

import sqlalchemy as sa
from neutron.common import config as neutron_config
from oslo_config import cfg
from oslo_db import options as db_options
from oslo_upgradecheck import upgradecheck

from midoryu.conf import neutron as options
from midoryu.errors import MidoryuError
from midoryu.neutron import mech
from midoryu.neutron.model import JournalEntry

_PASSED: Final = upgradecheck.Code.SUCCESS
_WARNING: Final = upgradecheck.Code.WARNING
_FAILED: Final = upgradecheck.Code.FAILURE


class Checks(upgradecheck.UpgradeCommands):
    """What has to be true before and after an upgrade."""

    def _nsdb(self) -> Any:
        """Look whether the NSDB answers and has every table and column of this code."""
        store = mech.make_synchronizer().store
        try:
            hosts = store.read(lambda tables, _: len(tables["Host"].rows))
        except MidoryuError as problem:
            return upgradecheck.Result(_FAILED, str(problem))
        finally:
            store.close()
        if not hosts:
            return upgradecheck.Result(_WARNING, "no agent has registered a host")
        return upgradecheck.Result(_PASSED)

    def _journal(self) -> Any:
        """Look whether the journal is there and short."""
        engine = sa.create_engine(cfg.CONF.database.connection)
        try:
            with engine.connect() as connection:
                found = connection.execute(
                    sa.select(
                        sa.func.count(JournalEntry.seq),
                        sa.func.max(JournalEntry.attempts),
                    )
                ).one()
        except sa.exc.SQLAlchemyError as problem:
            text = f"no journal; neutron-db-manage upgrade head makes it: {problem}"
            return upgradecheck.Result(_FAILED, " ".join(text.split())[:300])
        count, attempts = found
        if attempts:
            text = (
                f"the NSDB refused some of {count} journal entries; see Neutron's log"
            )
            return upgradecheck.Result(_FAILED, text)
        if count:
            text = f"{count} journal entries wait; is neutron-periodic-workers running?"
            return upgradecheck.Result(_WARNING, text)
        return upgradecheck.Result(_PASSED)

    def _options(self) -> Any:
        """Look for options that contradict each other."""
        conf = cfg.CONF
        if mech.NAME not in conf.ml2.mechanism_drivers:
            text = "[ml2] mechanism_drivers does not name midoryu"
            return upgradecheck.Result(_FAILED, text)
        if not any("midoryu_l3" in name for name in conf.service_plugins):
            return upgradecheck.Result(_WARNING, "service_plugins lacks midoryu_l3")
        if not conf.midoryu.gateways:
            text = "[midoryu] gateways is empty: no way out of the cloud"
            return upgradecheck.Result(_WARNING, text)
        return upgradecheck.Result(_PASSED)

    _upgrade_checks = (
        ("Options", _options),
        ("NSDB", _nsdb),
        ("Journal", _journal),
    )


def main() -> int:
    """Run the command; return its exit code."""
    warnings.simplefilter("ignore")
    neutron_config.register_common_config_options()
    from neutron.conf.plugins.ml2 import config as ml2_options

    ml2_options.register_ml2_plugin_opts()
    options.register_opts(cfg.CONF)
    db_options.set_defaults(cfg.CONF)
    code: int = upgradecheck.main(cfg.CONF, project="neutron", upgrade_command=Checks())
    return code


if __name__ == "__main__":
    sys.exit(main())
