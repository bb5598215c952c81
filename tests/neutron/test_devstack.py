# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin's phases, sourced under stubs in their own mount namespace."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from midoryu.cmd.agent_config import agent_config
from midoryu.conf import opts
from midoryu.neutron.extensions import L3_EXTENSIONS, ML2_EXTENSIONS

ROOT = Path(__file__).parents[2]
STACK = Path(__file__).with_name("stack.sh")
SCRIPTS = ["plugin.sh", "settings", "override-defaults"]
UP = ("stack:pre-install", "stack:install", "stack:post-config", "stack:extra")
# A private copy of /etc, and empty /opt and /run; what is there at the end is kept.
_INSIDE = """
set -e
mount --make-rprivate /
mkdir -p "$1/etc" "$1/opt" "$1/run"
cp -a /etc/. "$1/etc"
mount --bind "$1/etc" /etc
mount --bind "$1/opt" /opt
mount --bind "$1/run" /run
shift
exec "$@"
"""


class Stack:
    """What the phases did."""

    def __init__(self, directory: Path, *phases: str, **environment: str) -> None:
        self.directory = directory
        self.etc = directory / "etc"
        command = ["unshare", "-m", "bash", "-c", _INSIDE, "bash", str(directory)]
        command += ["bash", str(STACK), str(directory), *phases]
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**path, **environment},
            check=False,
        )
        assert result.returncode == 0, result.stderr
        self.calls = (directory / "calls").read_text()
        self.services = (directory / "services").read_text().strip().split(",")

    def option(self, file: str, section: str, name: str) -> str:
        """Read an option of a file that was written."""
        config = configparser.RawConfigParser()
        config.read(self.directory / file)
        return config.get(section, name)


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return Stack(tmp_path_factory.mktemp("aio"), *UP, "stack:test-config")


def test_options_go_into_the_file_that_the_api_reads(stacked: Stack) -> None:
    file = "etc/neutron/plugins/ml2/ml2_conf.ini"

    assert stacked.option(file, "midoryu", "nsdb_connection") == "tcp:192.0.2.10:6641"
    assert stacked.option(file, "midoryu", "gateways") == "public:aio"
    assert stacked.option(file, "ml2", "extension_drivers") == "port_security,qos"
    assert stacked.option(file, "ml2_type_flat", "flat_networks") == "public"


def test_nova_proxies_metadata_with_the_secret(stacked: Stack) -> None:
    file = "etc/nova/nova.conf"

    assert stacked.option(file, "neutron", "service_metadata_proxy") == "True"
    assert stacked.option(file, "neutron", "metadata_proxy_shared_secret") == "midoryu"


def test_agent_accepts_its_file(stacked: Stack) -> None:
    from oslo_config import cfg

    path = stacked.etc / "midoryu" / "midoryu.conf"
    text = path.read_text()
    text = text.replace("/etc/midoryu", str(stacked.etc / "midoryu"))
    path.write_text(text)
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf(args=["--config-file", str(path)], default_config_files=[])

    config = agent_config(conf)

    assert config.nsdb.connection == "tcp:192.0.2.10:6641"
    assert (stacked.etc / "midoryu" / "flow-state.key").stat().st_mode & 0o77 == 0


def test_services_are_midoryus_and_no_agents_of_others(stacked: Stack) -> None:
    assert {"midoryu-nsdb", "midoryu-agent", "midoryu-metadata"} <= set(
        stacked.services
    )
    assert not {"q-agt", "q-dhcp", "q-meta", "ovn-northd"} & set(stacked.services)
    assert "run_process midoryu-nsdb" in stacked.calls
    assert "run_process midoryu-agent /opt/venv/bin/ryu-manager" in stacked.calls


def test_nsdb_is_there_before_the_agent(stacked: Stack) -> None:
    calls = stacked.calls

    assert calls.index("run_process midoryu-nsdb") < calls.index(
        "run_process midoryu-agent"
    )


def test_uplink_makes_floating_addresses_reachable(stacked: Stack) -> None:
    assert 'external_ids:iface-id="public@aio"' in stacked.calls
    assert "ip addr replace 172.24.4.1/24 dev br-ex" in stacked.calls
    assert "set-manager ptcp:6640:127.0.0.1" in stacked.calls


def test_compute_node_has_an_agent_only(tmp_path: Path) -> None:
    environment = {
        "LOCAL_HOSTNAME": "compute1",
        "ENABLED_SERVICES": ",n-cpu,midoryu-agent,",
        "MIDORYU_GATEWAYS": "public:controller",
    }
    stack = Stack(tmp_path, *UP, **environment)

    assert "midoryu-nsdb" not in stack.services
    assert "run_process midoryu-nsdb" not in stack.calls
    assert "br-ex" not in stack.calls
    assert stack.option("etc/midoryu/midoryu.conf", "agent", "host") == "compute1"
    assert not (stack.etc / "neutron" / "plugins").exists()


def test_unstack_and_clean_leave_nothing(tmp_path: Path) -> None:
    stack = Stack(tmp_path, *UP, "unstack", "clean")

    for call in (
        "stop_process midoryu-agent",
        "stop_process midoryu-nsdb",
        "stop_process midoryu-metadata",
        "--if-exists del-br br-int",
        "--if-exists del-br br-ex",
        "del-manager",
    ):
        assert call in stack.calls
    assert not (stack.etc / "midoryu").exists()
    assert list((tmp_path / "run").iterdir()) == []
    assert not (tmp_path / "opt" / "stack" / "data" / "midoryu").exists()


def test_variables_of_a_local_conf_are_kept(tmp_path: Path) -> None:
    environment = {
        "MIDORYU_TUNNEL_TYPE": "geneve",
        "MIDORYU_GATEWAYS": "public:gw1,public:gw2",
        "Q_ML2_PLUGIN_TYPE_DRIVERS": "midoryu,flat",
    }
    stack = Stack(tmp_path, *UP, **environment)

    assert stack.option("etc/midoryu/midoryu.conf", "agent", "tunnel_type") == "geneve"
    file = "etc/neutron/plugins/ml2/ml2_conf.ini"
    assert stack.option(file, "midoryu", "gateways") == "public:gw1,public:gw2"
    assert "del-br" not in stack.calls


def test_extensions_for_tempest_are_those_of_the_drivers() -> None:
    text = (ROOT / "devstack" / "settings").read_text()
    value = text.partition('NETWORK_API_EXTENSIONS="')[2].partition('"')[0]
    named = set(value.replace("\\\n", "").split(","))
    # Those of extension and service plugins that DevStack also loads.
    others = {"segment", "standard-attr-segment", "trunk-details"}

    assert named - others <= ML2_EXTENSIONS | set(L3_EXTENSIONS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_clean(script: str) -> None:
    path = str(ROOT / "devstack" / script)
    bashate = str(Path(sys.executable).with_name("bashate"))
    checker = shutil.which("shellcheck")
    assert checker is not None, "run tools/install --neutron"
    # Variables come from DevStack and go to it.
    commands = [
        [checker, "-s", "bash", "-e", "SC2034,SC2154,SC1091", path],
        [bashate, "-i", "E006", path],
    ]
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout
