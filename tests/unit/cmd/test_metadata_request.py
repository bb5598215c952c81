# SPDX-License-Identifier: Apache-2.0
"""Who asks for metadata, and how Nova is asked for it."""

from __future__ import annotations

import hashlib
import hmac
from types import SimpleNamespace
from typing import Any

from midoryu.cmd.metadata_request import (
    Instance,
    answered_headers,
    forwarded_headers,
    instance_at,
)

SECRET = "top secret"  # noqa: S105 (nobody's)


def port(network: str, address: str, instance: str) -> Any:
    """Make what a port's row shows."""
    return SimpleNamespace(
        network=[SimpleNamespace(name=network)],
        addresses=[address],
        mac=["fa:16:3e:00:00:01"],
        external_ids={"neutron:device_id": instance, "neutron:project_id": "p"},
    )


PORTS = [port("one", "10.0.0.5", "vm1"), port("two", "10.0.0.5", "vm2")]


def test_instance_is_found_by_network_and_address() -> None:
    assert instance_at(PORTS, "two", "10.0.0.5") == Instance("vm2", "p")
    assert instance_at(PORTS, "two", "10.0.0.6") is None
    assert instance_at(PORTS, "three", "10.0.0.5") is None


def test_instance_is_found_by_the_mac_address_in_a_link_local_one() -> None:
    assert instance_at(PORTS, "one", "fe80::f816:3eff:fe00:1") == Instance("vm1", "p")


def test_nova_gets_the_instance_and_a_signature() -> None:
    headers = forwarded_headers(
        {"Accept": "*/*"}, Instance("vm1", "p"), address="10.0.0.5", secret=SECRET
    )

    expected = hmac.new(SECRET.encode(), b"vm1", hashlib.sha256).hexdigest()
    assert headers == {
        "Accept": "*/*",
        "X-Forwarded-For": "10.0.0.5",
        "X-Instance-ID": "vm1",
        "X-Tenant-ID": "p",
        "X-Instance-ID-Signature": expected,
    }


def test_instance_cannot_say_that_it_is_another() -> None:
    lie = {"x-instance-id": "vm9", "X-Tenant-Id": "q", "Connection": "close"}

    headers = forwarded_headers(
        lie, Instance("vm1", "p"), address="10.0.0.5", secret=SECRET
    )

    assert "vm9" not in headers.values()
    assert "q" not in headers.values()
    assert "Connection" not in headers


def test_answer_loses_what_is_about_novas_connection() -> None:
    headers = [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")]

    assert answered_headers(headers) == [("Content-Type", "text/plain")]
