# SPDX-License-Identifier: Apache-2.0
"""Options of the group [nsdb]: how to reach the network state database."""

from __future__ import annotations

from typing import Any, Final

from oslo_config import cfg

GROUP: Final = cfg.OptGroup("nsdb", title="The network state database")

_REMOTE: Final = r"(unix|tcp|ssl):[^,\s]+"

OPTIONS: Final = [
    cfg.StrOpt(
        "connection",
        default="unix:/run/midoryu/nsdb.sock",
        regex=rf"^{_REMOTE}(\s*,\s*{_REMOTE})*$",
        help="OVSDB server of the NSDB; several, separated by commas, for a cluster "
        "(unix:PATH, tcp:HOST:PORT, ssl:HOST:PORT).",
    ),
    cfg.StrOpt(
        "private_key",
        default="",
        help="PEM file with this host's private key. Needed with ssl.",
    ),
    cfg.StrOpt(
        "certificate",
        default="",
        help="PEM file with this host's certificate. Needed with ssl.",
    ),
    cfg.StrOpt(
        "ca_cert",
        default="",
        help="PEM file with the certificate of who signed the NSDB's. Needed with ssl.",
    ),
]


def register_opts(conf: Any) -> None:
    """Register the group and its options."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)
