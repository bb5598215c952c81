# SPDX-License-Identifier: Apache-2.0
"""Options become the agent's configuration, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg

from midoryu.agent.config import AgentConfig
from midoryu.cmd.agent_config import agent_config
from midoryu.conf import opts
from midoryu.errors import ConfigError
from midoryu.packet.address import parse_ip

KEY = "00112233445566778899aabbccddeeff"


def configured(tmp_path: Path, text: str) -> AgentConfig:
    """Read a configuration file."""
    path = tmp_path / "midoryu.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf(["--config-file", str(path)], default_config_files=[])
    return agent_config(conf)


def test_a_file_with_just_the_local_address_is_enough(tmp_path: Path) -> None:
    config = configured(tmp_path, "[agent]\nhost = h1\nlocal_ip = 192.0.2.1\n")

    assert config.engine.host == "h1"
    assert config.underlay == parse_ip("192.0.2.1")
    assert (config.ovs.bridge, config.ovs.openflow_port) == ("br-int", 6653)
    assert config.engine.state_keys == (b"",)
    assert "not authenticated" in config.warnings[0]


def test_the_journal_has_a_place_by_default_and_can_be_turned_off(
    tmp_path: Path,
) -> None:
    text = "[agent]\nlocal_ip = 192.0.2.1\n[flow_state]\n"

    usual = configured(tmp_path, text + "journal_limit_mb = 3\n")
    without = configured(tmp_path, text + "journal =\n")

    assert usual.journal == "/var/lib/midoryu/journal.db"
    assert usual.journal_limit_bytes == 3 << 20
    assert usual.engine.journal
    assert (without.journal, without.engine.journal) == ("", False)


def test_keys_are_read_in_their_order(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n{KEY[::-1]}\n")

    config = configured(
        tmp_path, f"[agent]\nlocal_ip = ::1\n[flow_state]\nkey_file = {keys}\n"
    )

    assert config.engine.state_keys == (bytes.fromhex(KEY), bytes.fromhex(KEY[::-1]))
    assert config.warnings == ()


def test_the_underlays_mtu_is_that_of_the_interface(tmp_path: Path) -> None:
    text = "[agent]\nlocal_ip = {}\n"

    # The loopback interface has 64 KiB; a packet-out does not carry as much.
    found = configured(tmp_path, text.format("127.0.0.1"))
    nowhere = configured(tmp_path, text.format("192.0.2.1"))
    said = configured(tmp_path, text.format("127.0.0.1") + "mtu_bytes = 1400\n")

    assert found.engine.mtu_bytes == 9216
    assert nowhere.engine.mtu_bytes == 1500
    assert any("192.0.2.1" in one for one in nowhere.warnings)
    assert said.engine.mtu_bytes == 1400
    assert said.engine.assumed_mtu_bytes == 1500


WRONG = {
    "MTU": ("[agent]\nlocal_ip = 127.0.0.1\nmtu_bytes = 100\n", "mtu_bytes: 0, or 576"),
    "no address": ("[agent]\nhost = a\n", "local_ip is missing"),
    "no IP": ("[agent]\nlocal_ip = 1.2.3\n", r"\[agent\] local_ip"),
    "multicast": ("[agent]\nlocal_ip = 224.0.0.1\n", "no address of a host"),
    "any address": ("[agent]\nlocal_ip = 0.0.0.0\n", "no address of a host"),
    "unknown option": ("[agent]\nlokal_ip = 1.2.3.4\n", "did you mean local_ip"),
    "unknown section": ("[agnet]\nlocal_ip = 1.2.3.4\n", "did you mean agent"),
    "range": ("[agent]\nlocal_ip = 1.2.3.4\nopenflow_port = 70000\n", "openflow_port"),
    "choice": ("[agent]\nlocal_ip = 1.2.3.4\ntunnel_type = stt\n", "tunnel_type"),
    "dscp": ("[agent]\nlocal_ip = 1.2.3.4\n[flow_state]\ndscp = 64\n", "dscp"),
    "waiting": ("[agent]\nlocal_ip = 1.2.3.4\nmax_waiting = 5\n", "is above"),
    "remote": ("[agent]\nlocal_ip = 1.2.3.4\n[nsdb]\nconnection = x\n", "connection"),
    "ssl": (
        "[agent]\nlocal_ip = 1.2.3.4\n[nsdb]\nconnection = ssl:h:6640\n",
        "needed together",
    ),
    "no key file": (
        "[agent]\nlocal_ip = 1.2.3.4\n[flow_state]\nkey_file = /nonexistent\n",
        "No such file",
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        configured(tmp_path, text)

    assert "\n" not in str(caught.value)


def test_the_metadata_proxy_is_run_with_both_files_where_one_is_named(
    tmp_path: Path,
) -> None:
    own = tmp_path / "metadata.conf"
    own.write_text("[metadata]\nshared_secret = s\n")
    text = "[agent]\nlocal_ip = 192.0.2.1\n"

    config = configured(tmp_path, text + f"metadata_config = {own}\n")

    files = [one for one in config.metadata_command if "--config-file" in one]
    assert files == [f"--config-file={tmp_path / 'midoryu.conf'}",
                     f"--config-file={own}"]  # fmt: skip
    assert configured(tmp_path, text).metadata_command == ()
    with pytest.raises(ConfigError, match=r"metadata_config: there is no file"):
        configured(tmp_path, text + "metadata_config = /no/such/file\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "holds no key"), ("zz\n", "not hexadecimal"), ("0011\n", "has 2 bytes")],
    ids=["empty", "no hex", "short"],
)
def test_a_wrong_key_is_refused_without_showing_it(
    tmp_path: Path, content: str, words: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(content)
    text = f"[agent]\nlocal_ip = 1.2.3.4\n[flow_state]\nkey_file = {keys}\n"

    with pytest.raises(ConfigError, match=words):
        configured(tmp_path, text)
