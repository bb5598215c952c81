# SPDX-License-Identifier: Apache-2.0
"""Turns the options of `midoryu.conf` into the agent's frozen configuration.

The only place where the agent's options are read and judged together.
"""

from __future__ import annotations

import difflib
import os
import secrets
import sys
import time
from typing import Any

from oslo_config import cfg

from midoryu.agent.config import AgentConfig, NsdbSettings
from midoryu.agent.key_file import read_keys
from midoryu.conf import flow_state, opts
from midoryu.engine.config import EngineConfig
from midoryu.errors import ConfigError
from midoryu.ovs.settings import OvsSettings
from midoryu.ovs.underlay import interface_mtu
from midoryu.packet.address import is_multicast_ip, parse_ip
from midoryu.state.connection import Phase
from midoryu.topology.mtu import DEFAULT_UNDERLAY_MTU, tunnel_overhead

# 2026-01-01T00:00:00Z
_EPOCH_START = 1_767_225_600
# A restart takes longer than this fraction of a second.
_EPOCH_PER_S = 8
# RFC 791, section 3.2; jumbo frames (no packet-out has room for more than 64 KiB).
_LEAST_MTU = 576
_MOST_MTU = 9216
_LIMITS = (
    "gateway_return",
    "vport_rate_pps",
    "vport_burst",
    "flood_rate_pps",
    "vport_storm_pps",
    "network_mac_limit",
    "vport_mac_limit",
    "mac_moves_max",
    "max_multicast_members",
    "flow_idle_timeout_s",
    "drop_flow_timeout_s",
    "fin_timeout_s",
    "max_flows",
    "max_connections",
    "max_unreplied_per_vport",
    "max_nat_ports_per_source",
    "refused_rate_pps",
    "max_waiting",
    "max_waiting_per_vport",
    "assumed_mtu_bytes",
    "max_fragmented",
    "max_fragment_bytes",
    "fragment_timeout_s",
    "neighbor_timeout_s",
    "neighbor_refresh_s",
    "max_neighbors",
    "mac_idle_timeout_s",
    "rule_log_per_s",
    "unsolicited_syn_wait_s",
)


def agent_config(conf: Any) -> AgentConfig:
    """Build the configuration from parsed options.

    Raises:
        ConfigError: an option is unknown, missing, wrong, or contradicts another.
    """
    for path in conf.config_file or []:
        _refuse_unknown(conf, path)
    for group, options in opts.list_opts():
        for option in options:
            _refuse_wrong(conf, group.name, option.dest)
    return _build(conf)


def _build(conf: Any) -> AgentConfig:
    keys, warnings = _state_keys(conf.flow_state.key_file)
    underlay = _underlay(conf.agent.local_ip)
    mtu_bytes, more = _mtu(conf.agent)
    warnings += more
    return AgentConfig(
        engine=_engine(conf, keys, mtu_bytes),
        ovs=OvsSettings(
            ovsdb=conf.agent.ovsdb,
            bridge=conf.agent.bridge,
            datapath_type=conf.agent.datapath_type,
            openflow_port=conf.agent.openflow_port,
            tunnel_type=conf.agent.tunnel_type,
            local_ip=conf.agent.local_ip,
            state_dscp=conf.flow_state.dscp,
            cache_idle_ms=conf.agent.cache_idle_ms,
        ),
        nsdb=_nsdb(conf),
        underlay=underlay,
        control_socket=conf.agent.control_socket,
        key_file=conf.flow_state.key_file,
        journal=conf.flow_state.journal,
        journal_limit_bytes=conf.flow_state.journal_limit_mb << 20,
        metadata_command=_metadata_command(conf),
        warnings=warnings,
    )


def _metadata_command(conf: Any) -> tuple[str, ...]:
    """Say how to run the metadata proxy; () where nobody wants the agent to.

    Raises:
        ConfigError: its file is not there.
    """
    own = conf.agent.metadata_config
    if not own:
        return ()
    if not os.path.isfile(own):
        raise ConfigError(f"[agent] metadata_config: there is no file {own}")
    files = [f"--config-file={path}" for path in (*(conf.config_file or ()), own)]
    return (sys.executable, "-m", "midoryu.cmd.metadata", "--supervised", *files)


def _mtu(agent: Any) -> tuple[int, tuple[str, ...]]:
    """Return the underlay's MTU, and what the operator should know about it."""
    if agent.mtu_bytes:
        if agent.mtu_bytes < _LEAST_MTU:
            raise ConfigError(f"[agent] mtu_bytes: 0, or {_LEAST_MTU} and more")
        return agent.mtu_bytes, ()
    found = interface_mtu(agent.local_ip)
    if found is None:
        return DEFAULT_UNDERLAY_MTU, (
            f"no interface has [agent] local_ip {agent.local_ip} yet: the underlay's "
            f"MTU is taken for {DEFAULT_UNDERLAY_MTU} bytes (set mtu_bytes)",
        )
    name, mtu_bytes = found
    if mtu_bytes < _LEAST_MTU:
        raise ConfigError(f"MTU of {name}, {mtu_bytes} bytes, is too small for tunnels")
    return min(mtu_bytes, _MOST_MTU), ()


def _engine(conf: Any, keys: tuple[bytes, ...], mtu_bytes: int) -> EngineConfig:
    limits = {name: getattr(conf.agent, name) for name in _LIMITS}
    if limits["max_waiting_per_vport"] > limits["max_waiting"]:
        raise ConfigError("[agent] max_waiting_per_vport is above max_waiting")
    lifetimes = {
        phase: getattr(conf.flow_state, flow_state.lifetime_option(phase))
        for phase in Phase
    }
    if lifetimes[Phase.UDP_UNREPLIED] > lifetimes[Phase.UDP]:
        raise ConfigError(
            "[flow_state] lifetime_udp_unreplied_s is above lifetime_udp_s"
        )
    if conf.flow_state.hold_first_packet_ms and conf.flow_state.delivery != "confirm":
        raise ConfigError(
            "[flow_state] hold_first_packet_ms needs delivery = confirm: without "
            "confirmations every first packet would wait for the whole time"
        )
    return EngineConfig(
        host=conf.agent.host,
        epoch=_epoch(time.time()),
        seed=secrets.randbits(64),
        state_keys=keys,
        delivery=conf.flow_state.delivery,
        confirm_interval_s=conf.flow_state.confirm_interval_ms / 1000,
        confirm_tries=conf.flow_state.confirm_tries,
        hold_first_packet_s=conf.flow_state.hold_first_packet_ms / 1000,
        beat_interval_s=conf.flow_state.beat_interval_ms / 1000,
        beat_multiplier=conf.flow_state.beat_multiplier,
        journal=bool(conf.flow_state.journal),
        dns_forwarders=tuple(map(parse_ip, map(str, conf.services.dns_forwarders))),
        tunnel_overhead_bytes=tunnel_overhead(
            conf.agent.tunnel_type, ipv6=":" in str(conf.agent.local_ip)
        ),
        lifetimes_s=tuple(lifetimes[phase] for phase in Phase),
        mtu_bytes=mtu_bytes,
        **limits,
    )


def _epoch(seconds: float) -> int:
    """Number this start: eighths of a second since 2026, which last until 2043."""
    return max(1, int((seconds - _EPOCH_START) * _EPOCH_PER_S)) & 0xFFFF_FFFF


def _underlay(local_ip: str | None) -> int:
    if not local_ip:
        raise ConfigError("[agent] local_ip is missing: this host's tunnel endpoint")
    try:
        underlay = parse_ip(local_ip)
    except ValueError as error:
        raise ConfigError(f"[agent] local_ip: {error}") from error
    if is_multicast_ip(underlay) or underlay & 0xFFFF_FFFF == 0:
        raise ConfigError(f"[agent] local_ip: {local_ip} is no address of a host")
    return underlay


def _nsdb(conf: Any) -> NsdbSettings:
    settings = NsdbSettings(
        connection=conf.nsdb.connection,
        private_key=conf.nsdb.private_key,
        certificate=conf.nsdb.certificate,
        ca_cert=conf.nsdb.ca_cert,
    )
    files = (settings.private_key, settings.certificate, settings.ca_cert)
    if (
        any(files)
        and not all(files)
        or "ssl:" in settings.connection
        and not all(files)
    ):
        raise ConfigError(
            "[nsdb] private_key, certificate and ca_cert are needed together with ssl"
        )
    for path in filter(None, files):
        _read(path, "[nsdb]")
    return settings


def _state_keys(path: str) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    if not path:
        return (b"",), (
            "[flow_state] key_file is not set: flow state is not authenticated, "
            "anybody in the underlay can forge it",
        )
    try:
        return read_keys(path), ()
    except ConfigError as error:
        raise ConfigError(f"[flow_state] key_file: {error}") from None


def _read(path: str, where: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{where} {path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{where} {path} is no text file") from None


def _refuse_wrong(conf: Any, group: str, name: str) -> None:
    """Look at the value of one option; oslo.config does so only when it is read."""
    try:
        conf[group][name]
    except (cfg.Error, ValueError) as error:
        # What oslo.config says stands inside a sentence about source code.
        reason = error.__context__ or error
        raise ConfigError(f"[{group}] {name}: {reason}") from error


def _refuse_unknown(conf: Any, path: str) -> None:
    """Look for options that nobody reads: most often a name written wrongly."""
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(path, sections).parse()
    known = {
        group.name: {option.dest for option in options}
        for group, options in (opts.list_opts())
    }
    for section, values in sections.items():
        if section not in known:
            _refuse_section(conf, path, section, known)
            continue
        for name in values:
            if name.replace("-", "_") not in known[section]:
                hint = _hint(name, known[section])
                raise ConfigError(f"{path}: unknown option [{section}] {name}{hint}")


def _refuse_section(conf: Any, path: str, section: str, known: Any) -> None:
    """Refuse a section only where it looks like one of ours written wrongly."""
    hint = _hint(section, known)
    if section != "DEFAULT" and section not in conf and hint:
        raise ConfigError(f"{path}: unknown section [{section}]{hint}")


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f", did you mean {close[0]}?" if close else ""
