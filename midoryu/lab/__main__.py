# SPDX-License-Identifier: Apache-2.0
"""`python -m midoryu.lab`: what tools/lab starts."""

from __future__ import annotations

import sys
import warnings

# The package ovs imports eventlet, which says so at every import.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

from midoryu.lab.cli import main  # noqa: E402

sys.exit(main())
