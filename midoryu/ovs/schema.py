# SPDX-License-Identifier: Apache-2.0
"""The part of Open vSwitch's own schema that the client reads and writes.

Stated here rather than fetched, so that a connection is never waited for.

Source: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from typing import Any, Final

_STRING: Final = {"type": "string"}
_MAP: Final = {
    "type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
}
_STRINGS: Final = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_OPTIONAL_STRING: Final = {"type": {"key": "string", "min": 0, "max": 1}}
_OPTIONAL_INTEGER: Final = {"type": {"key": "integer", "min": 0, "max": 1}}


def _rows(table: str) -> dict[str, Any]:
    key = {"type": "uuid", "refTable": table}
    return {"type": {"key": key, "min": 0, "max": "unlimited"}}


SCHEMA: Final[dict[str, Any]] = {
    "name": "Open_vSwitch",
    "version": "8.0.0",
    "tables": {
        "Open_vSwitch": {
            "columns": {"bridges": _rows("Bridge"), "other_config": _MAP},
            "isRoot": True,
        },
        "Bridge": {
            "columns": {
                "name": _STRING,
                "datapath_type": _STRING,
                "datapath_id": _OPTIONAL_STRING,
                "fail_mode": _OPTIONAL_STRING,
                "protocols": _STRINGS,
                "other_config": _MAP,
                "ports": _rows("Port"),
                "controller": _rows("Controller"),
            },
        },
        "Port": {"columns": {"name": _STRING, "interfaces": _rows("Interface")}},
        "Interface": {
            "columns": {
                "name": _STRING,
                "type": _STRING,
                "options": _MAP,
                "ofport": _OPTIONAL_INTEGER,
                "link_state": _OPTIONAL_STRING,
                "external_ids": _MAP,
                "error": _OPTIONAL_STRING,
            },
        },
        "Controller": {
            "columns": {
                "target": _STRING,
                "connection_mode": _OPTIONAL_STRING,
                "inactivity_probe": _OPTIONAL_INTEGER,
                "max_backoff": _OPTIONAL_INTEGER,
            },
        },
    },
}
