# SPDX-License-Identifier: Apache-2.0
"""`python -m midoryu.lab`: what tools/lab starts."""

from __future__ import annotations

import sys

from midoryu.lab.cli import main

sys.exit(main())
