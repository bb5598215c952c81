# SPDX-License-Identifier: Apache-2.0
"""The operator's command `midoryu-ctl`.

`ctl` parses the global options and calls one subcommand; each subcommand is a module
with `register(subparsers)`. Subcommands talk to the NSDB through `nsdb.session`, or to
one agent's control socket; they print for people or, with `--format json`, for
programs. No mistake of a user ends in a traceback: every expected error is a
`MidoryuError` and becomes one line and an exit code.
"""
