# SPDX-License-Identifier: Apache-2.0
"""`python -m midoryu.bench`: runs `cli`."""

from __future__ import annotations

import sys

from midoryu.bench.cli import main

sys.exit(main())
