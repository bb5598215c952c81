# SPDX-License-Identifier: Apache-2.0
"""Open the NSDB as the global options say, for every subcommand that needs it."""

from __future__ import annotations

import argparse

from midoryu.nsdb.remote import Certificates
from midoryu.nsdb.session import Session


def connect(options: argparse.Namespace) -> Session:
    """Connect to the NSDB.

    Raises:
        ConfigError: `--db` or a certificate is wrong.
        UnreachableError: no answer within `--timeout`.
    """
    files = Certificates(options.private_key, options.certificate, options.ca_cert)
    return Session(options.db, timeout_s=options.timeout, certificates=files)
