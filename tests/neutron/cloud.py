# SPDX-License-Identifier: Apache-2.0
"""A small OpenStack: Neutron on loopback, without Keystone or a message bus.

Requests are believed when they say who they are ("trusted" pipeline), so several
tenants and roles can be tested. The NSDB is a lab's or one of its own. The database is
a MariaDB of its own on a socket: SQLite lets one of two writing processes fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Union

ROOT = Path(__file__).parents[2]
SERVE = Path(__file__).with_name("serve.py")
_PASTE = Path(sys.prefix) / "etc" / "neutron" / "api-paste.ini"
_TRUSTED = (
    "trusted = cors http_proxy_to_wsgi request_id catch_errors osprofiler "
    "keystonecontext extensions neutronapiapp_v2_0"
)
_CONF = """\
[DEFAULT]
state_path = {directory}
log_file = {directory}/{name}.log
api_paste_config = {directory}/api-paste.ini
auth_strategy = trusted
core_plugin = ml2
service_plugins = {plugins}
transport_url = fake://
notify_nova_on_port_status_changes = {nova}
notify_nova_on_port_data_changes = {nova}
host = {name}
[database]
connection = {database}
[oslo_concurrency]
lock_path = {directory}/locks
[oslo_messaging_notifications]
driver = noop
[quotas]
quota_router = -1
[nova]
auth_type = none
endpoint = {nova_url}
"""
_ML2 = """\
[ml2]
type_drivers = midoryu,flat,vlan
project_network_types = midoryu
mechanism_drivers = midoryu
extension_drivers = port_security,qos
[ml2_type_vlan]
network_vlan_ranges = public:100:199
[midoryu]
nsdb_connection = {nsdb}
nsdb_timeout_s = 3
maintenance_interval_s = 1
check_interval_s = {check_interval_s}
gateways = {gateways}
datapath_type = netdev
"""
PLUGINS = "midoryu_l3,midoryu_port_forwarding,trunk,qos,segments"


def free_port() -> int:
    """Return a TCP port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(holds: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Wait until something holds and return it; fail after a while."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.1)


class Cloud:
    """Neutron's processes and their files."""

    def __init__(
        self,
        directory: Path,
        nsdb: str,
        *,
        gateways: str = "",
        nova: str = "",
        check_interval_s: int = 0,
    ) -> None:
        self.directory = directory
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        directory.mkdir(parents=True, exist_ok=True)
        paste = _PASTE.read_text()
        line = "keystone = cors http_proxy_to_wsgi request_id"
        paste = paste.replace(line, f"{_TRUSTED}\n{line}")
        paste = paste.replace(
            "keystone = cors http_proxy_to_wsgi neutronversions",
            "trusted = cors http_proxy_to_wsgi neutronversions\n"
            "keystone = cors http_proxy_to_wsgi neutronversions",
        )
        (directory / "api-paste.ini").write_text(paste)
        self._socket = directory / "mariadb.sock"
        self.database = f"mysql+pymysql://root@/neutron?unix_socket={self._socket}"
        self._nova = nova
        (directory / "ml2_conf.ini").write_text(
            _ML2.format(nsdb=nsdb, gateways=gateways, check_interval_s=check_interval_s)
        )

    def make_database(self) -> None:
        """Start the database and make the tables as an operator does."""
        data = self.directory / "mariadb"
        make = ["mariadb-install-db", "--no-defaults", f"--datadir={data}"]
        make += ["--skip-test-db", "--auth-root-authentication-method=normal"]
        _run([*make, "--user=root"])
        serve = ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"]
        serve += [f"--socket={self._socket}", "--skip-networking"]
        serve += ["--innodb-flush-log-at-trx-commit=0"]
        self._start("mariadb", [*serve, f"--pid-file={data}/pid"], {})
        ask = ["mariadb", "--no-defaults", f"--socket={self._socket}", "-u", "root"]
        wait(
            lambda: (
                subprocess.run([*ask, "-e", ""], capture_output=True).returncode == 0
            )
        )
        _run([*ask, "-e", "CREATE DATABASE neutron CHARACTER SET utf8mb3"])
        upgrade = str(Path(sys.executable).with_name("neutron-db-manage"))
        _run([upgrade, *self.conf_arguments(), "upgrade", "head"])

    def start_api(self, name: str = "api", **environment: str) -> None:
        """Start an API process and wait until it answers."""
        port = self._ports.setdefault(name, free_port())
        self._start(name, [sys.executable, str(SERVE), str(port)], environment)
        wait(lambda: self._answers(name), 60)

    def start_worker(self, name: str = "worker") -> None:
        """Start `neutron-periodic-workers`."""
        program = Path(sys.executable).with_name("neutron-periodic-workers")
        files = [f"--config-file={file}" for file in self._conf_files(name)]
        self._start(name, [str(program), *files], {})

    @property
    def running(self) -> frozenset[str]:
        """Name the processes that were started and not ended by us."""
        return frozenset(self._children)

    def kill(self, name: str) -> None:
        """Kill a process (-9) with its children."""
        child = self._children.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def wait_dead(self, name: str) -> int:
        """Wait until a process ended by itself; return its exit code."""
        child = self._children.pop(name)
        return child.wait(timeout=30)

    def stop(self) -> None:
        """End everything."""
        for name in list(self._children):
            self.kill(name)

    def url(self, name: str = "api") -> str:
        """Return where an API process listens."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def client(
        self, project: str, *, roles: str = "member,reader", api: str = "api"
    ) -> Any:
        """Return openstacksdk's network client of a project."""
        import openstack

        headers = {
            "X-User-Id": f"user-of-{project}",
            "X-Project-Id": project,
            "X-Roles": roles,
        }
        connection = openstack.connect(
            auth_type="none",
            endpoint=self.url(api),
            network_endpoint_override=f"{self.url(api)}/",
            load_yaml_config=False,
            load_envvars=False,
        )
        connection.session.additional_headers.update(headers)
        return connection.network

    def admin(self, api: str = "api") -> Any:
        """Return the client of an administrator (and service)."""
        return self.client(
            "admin-project", roles="admin,service,manager,member,reader", api=api
        )

    def conf_arguments(self) -> list[str]:
        """Return what commands need to find the configuration."""
        return [f"--config-file={file}" for file in self._conf_files("command")]

    def log(self, name: str) -> str:
        """Return what a process logged."""
        path = self.directory / f"{name}.log"
        out = self.directory / f"{name}.out"
        texts = [p.read_text(errors="replace") for p in (path, out) if p.exists()]
        return "\n".join(texts)

    def _conf_files(self, name: str) -> list[Path]:
        path = self.directory / f"{name}.conf"
        path.write_text(
            _CONF.format(
                directory=self.directory,
                name=name,
                plugins=PLUGINS,
                nova=str(bool(self._nova)).lower(),
                nova_url=self._nova,
                database=self.database,
            )
        )
        return [path, self.directory / "ml2_conf.ini"]

    def _start(
        self, name: str, command: list[str], environment: dict[str, str]
    ) -> None:
        files = self._conf_files(name)
        full = {
            **os.environ,
            "OS_NEUTRON_CONFIG_DIR": str(self.directory),
            "OS_NEUTRON_CONFIG_FILES": ";".join(file.name for file in files),
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        with (self.directory / f"{name}.out").open("ab") as out:
            self._children[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=full,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _answers(self, name: str) -> bool:
        child = self._children[name]
        assert child.poll() is None, self.log(name)[-3000:]
        try:
            with urllib.request.urlopen(f"{self.url(name)}/", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"


@contextlib.contextmanager
def running(
    directory: Path, nsdb: str, *, worker: bool = True, **options: Any
) -> Iterator[Cloud]:
    """Have a cloud for the length of a block."""
    cloud = Cloud(directory, nsdb, **options)
    try:
        cloud.make_database()
        cloud.start_api()
        if worker:
            cloud.start_worker()
        yield cloud
    finally:
        cloud.stop()


def remove(directory: Union[str, Path]) -> None:
    """Remove a directory."""
    shutil.rmtree(directory, ignore_errors=True)
