# SPDX-License-Identifier: Apache-2.0
"""`midoryu-metadata`: the metadata proxy of one host, for all its networks.

For each network that has a port up here it keeps a network namespace with an interface
plugged as the network's metadata port, and listens in it on 169.254.169.254 and
fe80::a9fe:a9fe. Requests go, signed, to Nova's metadata API from the host's own
namespace: a socket stays in the namespace in which it was made.

The agent runs it (`[agent] metadata_config`), or a service manager.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import http.client
import http.server
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Callable, Final

from oslo_config import cfg

from midoryu.cmd.metadata_request import (
    answered_headers,
    forwarded_headers,
    instance_at,
)
from midoryu.conf import metadata as metadata_options
from midoryu.conf import opts
from midoryu.errors import ConfigError, MidoryuError, NsdbError
from midoryu.nsdb.remote import Certificates
from midoryu.nsdb.session import Session

LOG = logging.getLogger(__name__)

V4: Final = "169.254.169.254"
# RFC 4291, section 2.5.6; the address that OpenStack's instances know.
V6: Final = "fe80::a9fe:a9fe"
PORT: Final = 80
_CLONE_NEWNET: Final = 0x4000_0000
_TICK_S: Final = 1.0
_MAX_BODY: Final = 1 << 20


class Proxy:
    """Serves the metadata of one network."""

    def __init__(self, agent: MetadataAgent, network: str, port: Any) -> None:
        self.network = network
        digest = hashlib.blake2s(network.encode(), digest_size=5).hexdigest()
        self.namespace = f"mrmeta-{digest}"
        self._inside, self._outside = "meta0", f"mrm{digest}"
        self._agent = agent
        self._servers: list[http.server.ThreadingHTTPServer] = []
        self._make(port.interface_id, port.mac[0])

    def close(self) -> None:
        """Take everything away."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._agent.vsctl("--if-exists", "del-port", self._agent.bridge, self._outside)
        _run("ip", "link", "del", self._outside, check=False)
        _run("ip", "netns", "del", self.namespace, check=False)

    def _make(self, iface_id: str, mac: str) -> None:
        inside = ("ip", "-n", self.namespace)
        _run("ip", "netns", "add", self.namespace, check=False)
        # One that was killed left its interface; OVS would hold on to what was there.
        self._agent.vsctl("--if-exists", "del-port", self._agent.bridge, self._outside)
        _run("ip", "link", "del", self._outside, check=False)
        _run(
            *("ip", "link", "add", self._outside, "type", "veth", "peer"),
            *("name", self._inside, "address", mac, "netns", self.namespace),
        )
        _run("ip", "link", "set", "dev", self._outside, "up")
        _run(*inside, "link", "set", "dev", "lo", "up")
        _run(*inside, "link", "set", "dev", self._inside, "up")
        # OVS's userspace datapath hands on no partial checksums.
        _run("ethtool", "-K", self._outside, "tx", "off", check=False)
        _run(
            *("ip", "netns", "exec", self.namespace),
            *("ethtool", "-K", self._inside, "tx", "off"),
            check=False,
        )
        _run(*inside, "addr", "add", f"{V4}/32", "dev", self._inside)
        v6 = ("addr", "add", f"{V6}/64", "dev", self._inside, "nodad")
        _run(*inside, *v6, check=False)
        _run(*inside, "route", "replace", "default", "dev", self._inside)
        self._agent.vsctl(
            *("--may-exist", "add-port", self._agent.bridge, self._outside, "--"),
            *("set", "interface", self._outside),
            f'external_ids:iface-id="{iface_id}"',
        )
        with _listening(self.namespace, self._inside) as sockets:
            self._servers = [self._serve(found) for found in sockets]
        LOG.info("metadata for %s in %s", self.network, self.namespace)

    def _serve(self, listening: socket.socket) -> http.server.ThreadingHTTPServer:
        handler = _handler(self._agent, self.network)
        server = http.server.ThreadingHTTPServer(
            ("", 0), handler, bind_and_activate=False
        )
        server.socket.close()
        server.socket = listening
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


class MetadataAgent:
    """Keeps a proxy for each network that has a port here."""

    def __init__(self, conf: Any) -> None:
        self.host = conf.agent.host
        self.bridge = conf.agent.bridge
        self.ovsdb = conf.agent.ovsdb
        self.nova = urllib.parse.urlsplit(conf.metadata.nova_url)
        self.secret = conf.metadata.shared_secret
        self.timeout_s = conf.metadata.timeout_s
        self._nsdb = "".join(conf.nsdb.connection.split())
        self._certificates = Certificates(
            conf.nsdb.private_key, conf.nsdb.certificate, conf.nsdb.ca_cert
        )
        self._lock = threading.Lock()
        self._session: Any = None
        self._proxies: dict[str, Proxy] = {}

    def run(self, stop: threading.Event) -> None:
        """Look every second until told to stop, then take everything away."""
        while not stop.is_set():
            try:
                self._look()
            except (MidoryuError, subprocess.CalledProcessError, OSError) as problem:
                LOG.warning("metadata: %s", problem)
            stop.wait(_TICK_S)
        for proxy in self._proxies.values():
            proxy.close()

    def read(self, look: Callable[[Mapping[str, Any]], Any]) -> Any:
        """Let `look` see the rows of the NSDB.

        Raises:
            NsdbError: the NSDB does not answer, and never did.
        """
        with self._lock:
            if self._session is None:
                self._session = _Reader(
                    self._nsdb, timeout_s=5.0, certificates=self._certificates
                )
            self._session.refresh()
            return look(self._session.tables)

    def vsctl(self, *arguments: str) -> None:
        """Change the local OVSDB."""
        _run("ovs-vsctl", f"--db={self.ovsdb}", "--timeout=10", *arguments)

    def _look(self) -> None:
        wanted = self.read(lambda tables: _wanted(tables, self.host))
        for name in self._proxies.keys() - wanted.keys():
            self._proxies.pop(name).close()
        for name, port in wanted.items():
            if name not in self._proxies:
                self._proxies[name] = Proxy(self, name, port)


class _Reader(Session):
    def refresh(self) -> None:
        self._idl.run()


def _wanted(tables: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the metadata ports of networks that have a port up at a host."""
    here = {
        row.port.network[0].name
        for row in tables["Port_Status"].rows.values()
        if row.up
        and row.host.name == host
        and row.port.network
        and not row.port.metadata
    }
    return {
        row.network[0].name: row
        for row in tables["Port"].rows.values()
        if row.metadata and row.network and row.network[0].name in here
    }


@contextlib.contextmanager
def _listening(namespace: str, device: str) -> Iterator[list[socket.socket]]:
    """Make the sockets in a namespace, from a thread that enters it and ends."""
    made: list[socket.socket] = []
    problems: list[OSError] = []

    def make() -> None:
        try:
            _enter(namespace)
            made.append(_bound(socket.AF_INET, (V4, PORT)))
            with contextlib.suppress(OSError):
                index = socket.if_nametoindex(device)
                made.append(_bound(socket.AF_INET6, (V6, PORT, 0, index)))
        except OSError as problem:
            problems.append(problem)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    yield made


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(address)
    found.listen(64)
    return found


def _enter(namespace: str) -> None:
    # os.setns is there from Python 3.12 on only.
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace)
    finally:
        os.close(descriptor)


def _handler(agent: MetadataAgent, network: str) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        """Passes a request on."""

        protocol_version = "HTTP/1.1"
        timeout = 60

        def log_message(self, *args: Any) -> None:
            """Stay quiet: instances ask often."""

        def do_GET(self) -> None:
            """Pass it on."""
            address = self.client_address[0].partition("%")[0]
            try:
                instance = agent.read(
                    lambda tables: instance_at(
                        tuple(tables["Port"].rows.values()), network, address
                    )
                )
            except NsdbError as problem:
                LOG.warning("metadata: %s", problem)
                return self.send_error(503)
            if instance is None:
                return self.send_error(404)
            headers = forwarded_headers(
                dict(self.headers), instance, address=address, secret=agent.secret
            )
            return self._pass_on(headers)

        do_PUT = do_POST = do_HEAD = do_GET  # noqa: N815 (http.server's names)

        def _pass_on(self, headers: dict[str, str]) -> None:
            length = min(int(self.headers.get("Content-Length") or 0), _MAX_BODY)
            body = self.rfile.read(length) if length else None
            kind = (
                http.client.HTTPSConnection
                if agent.nova.scheme == "https"
                else http.client.HTTPConnection
            )
            nova = kind(agent.nova.netloc, timeout=agent.timeout_s)
            try:
                path = agent.nova.path.rstrip("/") + self.path
                nova.request(self.command, path, body, headers)
                answer = nova.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as problem:
                LOG.warning("Nova's metadata API: %s", problem)
                return self.send_error(502)
            finally:
                nova.close()
            self.send_response(answer.status)
            for name, value in answered_headers(answer.getheaders()):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)
            return None

    return Handler


def _run(*command: str, check: bool = True) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and result.returncode != 0:
        raise OSError(f"{' '.join(command)}: {result.stderr.strip()}")


def _configure(arguments: list[str] | None) -> Any:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    metadata_options.register_opts(conf)
    conf.register_cli_opt(
        cfg.BoolOpt(
            "supervised",
            default=False,
            help="End when the standard input does: who started this is no more.",
        )
    )
    try:
        conf(args=arguments, project="midoryu", prog="midoryu-metadata")
    except (cfg.Error, OSError) as problem:
        raise ConfigError(" ".join(str(problem).split())) from problem
    if not conf.metadata.shared_secret:
        raise ConfigError("[metadata] shared_secret is required: Nova's own")
    return conf


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal ends it; return the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        conf = _configure(arguments)
        agent = MetadataAgent(conf)
    except ConfigError as problem:
        print(f"midoryu-metadata: {problem}", file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if conf.supervised:
        threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    agent.run(stop)
    return 0


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    LOG.info("the agent is gone")
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
