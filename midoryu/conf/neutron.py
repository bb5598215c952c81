# SPDX-License-Identifier: Apache-2.0
"""Options of the group [midoryu], which Neutron's processes read, not the agent.

They stand in the file that the API reads under uwsgi: `ml2_conf.ini`.
"""

from __future__ import annotations

from typing import Any, Final

from oslo_config import cfg, types

GROUP: Final = cfg.OptGroup("midoryu", title="Neutron's drivers for midoryu")

_REMOTE: Final = r"(unix|tcp|ssl):[^,\s]+"

OPTIONS: Final = [
    cfg.StrOpt(
        "nsdb_connection",
        default="unix:/run/midoryu/nsdb.sock",
        regex=rf"^{_REMOTE}(\s*,\s*{_REMOTE})*$",
        help="OVSDB server of the network state database; several, separated by "
        "commas, for a cluster (unix:PATH, tcp:HOST:PORT, ssl:HOST:PORT). With a wrong "
        "one Neutron's API works, but nothing reaches the hosts until it is right.",
    ),
    cfg.StrOpt(
        "nsdb_private_key",
        default="",
        help="PEM file with the private key of this process. Needed with ssl.",
    ),
    cfg.StrOpt(
        "nsdb_certificate",
        default="",
        help="PEM file with the certificate of this process. Needed with ssl.",
    ),
    cfg.StrOpt(
        "nsdb_ca_cert",
        default="",
        help="PEM file with the certificate of who signed the NSDB's. Needed with ssl.",
    ),
    cfg.FloatOpt(
        "nsdb_timeout_s",
        default=5.0,
        min=0.5,
        max=60.0,
        help="Seconds that an API call waits for the NSDB. After that the call "
        "succeeds all the same and the maintenance worker writes later. A large value "
        "lets API calls hang while the NSDB is away.",
    ),
    cfg.ListOpt(
        "gateways",
        default=[],
        item_type=types.String(regex=r"^[^\s:,]+:[^\s:,]+$"),
        help="Hosts that have a way into a physical network, as PHYSNET:HOST. On each, "
        "plug the physical interface into the integration bridge with "
        "external_ids:iface-id=PHYSNET@HOST. Provider networks and external gateways "
        "of that physical network leave by these hosts. Without an entry for it, no "
        "port of a provider network binds.",
    ),
    cfg.StrOpt(
        "active_gateways",
        default="all",
        choices=[
            ("all", "all of them do, as ways to one segment"),
            ("first", "the first of a physical network's gateways carries its traffic"),
        ],
        help="Which gateways of a physical network carry traffic; their interfaces are "
        "in one layer 2 segment (others are another physical network). With `all`, "
        "what goes to everybody passes one of them, and another one as soon as that "
        "dies; other frames leave by the gateway where the sender runs, if it runs on "
        "one. Switches out there see a router's MAC address at several of their ports "
        "by turns. With `first`, the others stand by until the list is changed.",
    ),
    cfg.StrOpt(
        "bridge",
        default="br-int",
        regex=r"^[A-Za-z0-9_.-]{1,15}$",
        help="Integration bridge of the hosts; the agents' option of the same name. "
        "Nova plugs its interfaces there; with a wrong one instances have no network.",
    ),
    cfg.StrOpt(
        "datapath_type",
        default="system",
        choices=[
            ("system", "the kernel's datapath"),
            ("netdev", "the userspace datapath"),
        ],
        help="Datapath of that bridge; the agents' option of the same name. os-vif "
        "would make the bridge anew with a wrong one.",
    ),
    cfg.BoolOpt(
        "ovs_create_tap",
        default=True,
        help="Let os-vif make an instance's interface before the instance starts. "
        "Without it, Nova's waiting for network-vif-plugged fails before a start or a "
        "live migration.",
    ),
    cfg.BoolOpt(
        "metadata",
        default=True,
        help="Give each network with subnets a port for the metadata proxy "
        "(midoryu-metadata, on every host). Without it instances get no metadata but "
        "from a configuration drive.",
    ),
    cfg.IntOpt(
        "maintenance_interval_s",
        default=5,
        min=1,
        max=3600,
        help="Seconds between two looks of the maintenance worker at what an API "
        "process could not write.",
    ),
    cfg.IntOpt(
        "check_interval_s",
        default=300,
        min=0,
        max=86400,
        help="Seconds between two comparisons of the whole Neutron database with the "
        "NSDB, with repair; 0 never compares but at the worker's start.",
    ),
]


def register_opts(conf: Any) -> None:
    """Register the group and its options."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[Any, list[Any]]]:
    """List the options by their group (entry point `oslo.config.opts`)."""
    return [(GROUP, list(OPTIONS))]
