# SPDX-License-Identifier: Apache-2.0
"""The OpenFlow framework: Ryu, or its maintained fork os_ken where Ryu is absent.

The only module that imports either; the rest of the room takes the names from here.
"""

from __future__ import annotations

import os

import eventlet.wsgi

# Ryu 4.34 imports this name, which eventlet dropped; any value does.
if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
    eventlet.wsgi.ALREADY_HANDLED = object()

try:
    from ryu.base import app_manager
    from ryu.controller import controller, handler, ofp_event, ofp_handler
    from ryu.lib import hub
    from ryu.ofproto import ofproto_parser

    RyuApp = app_manager.RyuApp
except ImportError:
    # os_ken's hub is made of threads unless told otherwise; the engine has one owner.
    os.environ.setdefault("OSKEN_HUB_TYPE", "eventlet")
    from os_ken.base import app_manager
    from os_ken.controller import controller, handler, ofp_event, ofp_handler
    from os_ken.lib import hub
    from os_ken.ofproto import ofproto_parser

    RyuApp = app_manager.OSKenApp

MAIN = handler.MAIN_DISPATCHER
DEAD = handler.DEAD_DISPATCHER

__all__ = [
    "DEAD",
    "MAIN",
    "RyuApp",
    "app_manager",
    "controller",
    "handler",
    "hub",
    "ofp_event",
    "ofp_handler",
    "ofproto_parser",
]
