# SPDX-License-Identifier: Apache-2.0
"""Imports Ryu and eventlet once, without the warnings that they give at import."""

from __future__ import annotations

import importlib
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for _name in ("midoryu.agent.framework", "ovs.poller"):
        importlib.import_module(_name)
