# SPDX-License-Identifier: Apache-2.0
"""`midoryu-neutron-sync`: compare Neutron's database with the NSDB, and repair.

Exit codes: 0 nothing differs (or all is repaired), 1 something differs, 2 neither could
be found out.
"""

from __future__ import annotations

import argparse
import sys
import warnings

from midoryu.errors import MidoryuError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    warnings.simplefilter("ignore")
    # Neutron takes a second to import: not for `--help`.
    from neutron_lib import context as neutron_context

    from midoryu.neutron import command
    from midoryu.nsdb.apply import describe

    try:
        sync = command.load(options.config_file)
        context = neutron_context.get_admin_context()
        changes = sync.repair(context) if options.repair else sync.check(context)
    except MidoryuError as problem:
        print(f"midoryu-neutron-sync: {problem}", file=sys.stderr)
        return 2
    for line in describe(changes):
        command.say(line)
    command.say(_summary(len(changes), repaired=options.repair))
    return 1 if changes and not options.repair else 0


def _summary(count: int, *, repaired: bool) -> str:
    if not count:
        return "the NSDB says what Neutron says"
    rows = f"{count} row{'s' if count > 1 else ''}"
    return f"{rows} {'repaired' if repaired else 'differ'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="midoryu-neutron-sync",
        description="Compare Neutron's database with midoryu's, and repair the latter.",
        epilog="`+` is missing in the NSDB, `-` should not be there, `~` differs.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="print the difference")
    what.add_argument("--repair", action="store_true", help="print and repair it")
    parser.add_argument(
        "--config-file",
        action="append",
        default=[],
        metavar="FILE",
        help="Neutron's configuration; may be given several times (default: "
        "/etc/neutron/neutron.conf and /etc/neutron/plugins/ml2/ml2_conf.ini)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
