# SPDX-License-Identifier: Apache-2.0
"""DHCP, router advertisements, DNS and metadata, asked by real clients."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, counters, pings, wait

# The server answers with whom it saw, so a test knows whose request came where.
_SERVER = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{sys.argv[1]} {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 80), Handler).serve_forever()
"""
# A name server that says 192.0.2.7 to everything.
_FORWARDER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    query, client = server.recvfrom(4096)
    end = query.index(0, 12) + 5
    head = query[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0"
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xc0\\0\\2\\7"
    server.sendto(head + query[12:end] + answer, client)
"""


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Iterator[Lab]:
    lab = module_lab(LABS / "services.yaml")
    children = [lab.popen("n1", ["python3", "-c", _FORWARDER])]
    for machine in ("a", "b", "rogue", "c"):
        lab.exec(machine, "ip addr flush dev eth0 scope global")
    for machine in ("meta1", "meta2"):
        lab.exec(machine, "ip route add 10.0.1.0/24 dev eth0")
        children.append(lab.popen(machine, ["python3", "-c", _SERVER, machine]))
    yield lab
    for child in children:
        child.kill()
        child.wait()


def give_addresses(lab: Lab) -> None:
    """Give the machines what the topology says, where DHCP is not what is tested."""
    for machine, number in (("a", 11), ("b", 12)):
        lab.exec(machine, f"ip addr replace 10.0.1.{number}/24 dev eth0")
        lab.exec(machine, f"ip addr replace fd00:1::{number}/64 dev eth0 nodad")
        lab.exec(machine, "ip route replace default via 10.0.1.1")


def dhclient(lab: Lab, machine: str, family: str) -> str:
    """Get a lease with dhclient, and return it."""
    script = (
        "d=$(mktemp -d); "
        f"timeout 20 dhclient {family} -1 -d -sf /bin/true -lf $d/l -pf $d/p eth0 "
        "2>/dev/null & p=$!; "
        "for i in $(seq 100); do grep -qs '^}' $d/l && break; sleep 0.1; done; "
        "kill $p; wait $p; cat $d/l; rm -r $d"
    )
    return lab.exec(machine, ["sh", "-c", script], check=False).stdout


def dig(lab: Lab, machine: str, *words: str) -> str:
    command = ["dig", "+time=3", "+tries=1", *words]
    return lab.exec(machine, command, check=False).stdout


def test_dhclient_gets_its_address_and_options_though_a_filter_drops_dhcp(
    lab: Lab,
) -> None:
    lease = dhclient(lab, "a", "-4")

    for line in (
        "fixed-address 10.0.1.11;",
        "option subnet-mask 255.255.255.0;",
        "option routers 10.0.1.1;",
        "option domain-name-servers 10.0.1.2;",
        'option domain-name "web.example";',
        "option ntp-servers 10.0.1.9;",
        "option interface-mtu 1400;",
        "option dhcp-lease-time 3600;",
        "option dhcp-server-identifier 10.0.1.1;",
        'option host-name "alpha";',
    ):
        assert line in lease


def test_udhcpc_gets_the_same_on_another_host(lab: Lab) -> None:
    command = "timeout 10 udhcpc -f -n -q -i eth0 -s /bin/true 2>&1"
    text = lab.exec("b", ["sh", "-c", command], check=False).stdout

    assert "lease of 10.0.1.12 obtained from 10.0.1.1, lease time 3600" in text


def test_answer_carries_routes_search_list_and_the_ports_own_options(lab: Lab) -> None:
    with lab.capture("a", expression="udp src port 67") as capture:
        dhclient(lab, "a", "-4")
    frames = b"".join(frame.data for frame in capture.frames())

    # RFC 3442: 10.9.0.0/16 by .254, and the default route by .1.
    assert bytes((121, 12, 16, 10, 9, 10, 0, 1, 254, 0, 10, 0, 1, 1)) in frames
    assert (
        b"\x77\x1a\x03web\x07example\0" in frames or b"\x03web\x07example\0" in frames
    )
    assert b"\xfc\x14http://wpad.example/" in frames
    assert b"\x42\x0910.0.1.77" in frames
    assert b"pxe.0" in frames


def test_wish_for_another_address_is_not_granted(lab: Lab) -> None:
    command = "timeout 10 udhcpc -f -n -q -i eth0 -r 10.0.1.99 -s /bin/true 2>&1"
    text = lab.exec("b", ["sh", "-c", command], check=False).stdout

    assert "lease of 10.0.1.12 obtained" in text


def test_client_that_comes_back_with_a_wrong_address_is_refused(lab: Lab) -> None:
    lease = (
        'lease { interface "eth0"; fixed-address 10.0.1.99; '
        "option subnet-mask 255.255.255.0; renew never; rebind never; expire never; }"
    )
    script = (
        f"d=$(mktemp -d); echo '{lease}' > $d/l; "
        "timeout 15 dhclient -4 -1 -d -v -sf /bin/true -lf $d/l -pf $d/p eth0 "
        "> $d/out 2>&1 & p=$!; "
        "for i in $(seq 100); do grep -qs ^bound $d/out && break; sleep 0.1; done; "
        "kill $p; wait $p; cat $d/out; rm -r $d"
    )
    text = lab.exec("b", ["sh", "-c", script], check=False).stdout

    assert "DHCPNAK from 10.0.1.1" in text
    assert "bound to 10.0.1.12" in text


def test_dhclient_gets_its_ipv6_address_and_name_server(lab: Lab) -> None:
    lease = dhclient(lab, "a", "-6")

    assert "iaaddr fd00:1::11 {" in lease
    assert "option dhcp6.name-servers fd00:1::2;" in lease
    assert 'option dhcp6.domain-search "web.example.";' in lease


def test_host_makes_its_own_address_of_an_advertisement(lab: Lab) -> None:
    lab.exec("c", "sysctl -qw net.ipv6.conf.eth0.addr_gen_mode=0")
    lab.exec("c", "ip link set eth0 down")
    lab.exec("c", "ip link set eth0 up")

    def routed() -> bool:
        text = lab.exec("c", "ip -6 addr show dev eth0 scope global").stdout
        route = lab.exec("c", "ip -6 route show default").stdout
        return "fd00:2::ff:fe00:211/64" in text and "pref high" in route

    assert wait(routed, 20)
    assert wait(lambda: pings(lab, "c", "fd00:2::1") == 3)


def test_solicitation_is_answered_at_once_with_everything(lab: Lab) -> None:
    text = lab.exec("c", "rdisc6 -1 -w 2000 eth0", check=False).stdout

    assert re.search(r"Stateful address conf.*: +No", text)
    assert re.search(r"Prefix +: fd00:2::/64", text)
    assert re.search(r"Router preference +: +high", text)
    assert "MTU" in text


def test_advertisements_come_unasked(lab: Lab) -> None:
    before = counters(lab, "n2").get("router advertisements", 0)

    assert wait(
        lambda: counters(lab, "n2").get("router advertisements", 0) >= before + 2, 15
    )


@pytest.mark.parametrize("server", ["10.0.1.2", "fd00:1::2"])
def test_names_of_the_network_are_known(lab: Lab, server: str) -> None:
    give_addresses(lab)

    assert dig(lab, "b", "+short", f"@{server}", "alpha.web.example") == "10.0.1.11\n"
    assert dig(lab, "b", "+short", f"@{server}", "B.Web.Example", "AAAA") == (
        "fd00:1::12\n"
    )
    assert dig(lab, "b", "+short", f"@{server}", "-x", "10.0.1.11") == (
        "alpha.web.example.\n"
    )
    assert dig(lab, "b", "+short", f"@{server}", "-x", "fd00:1::12") == (
        "b.web.example.\n"
    )
    assert "NXDOMAIN" in dig(lab, "b", f"@{server}", "nobody.web.example")


def test_other_names_are_asked_elsewhere_where_the_host_has_a_forwarder(
    lab: Lab,
) -> None:
    give_addresses(lab)

    assert dig(lab, "a", "+short", "@10.0.1.2", "www.example.net") == "192.0.2.7\n"
    assert "REFUSED" in dig(lab, "b", "@10.0.1.2", "www.example.net")


def test_dns_over_tcp_is_refused_politely(lab: Lab) -> None:
    give_addresses(lab)

    result = lab.exec("b", "nc -w 2 -v 10.0.1.2 53", check=False)
    assert "refused" in result.stderr


def test_services_answer_pings(lab: Lab) -> None:
    give_addresses(lab)

    assert pings(lab, "a", "10.0.1.2") == 3
    assert pings(lab, "b", "fd00:1::2") == 3


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("a", "meta1 ::ffff:10.0.1.11"), ("b", "meta2 ::ffff:10.0.1.12")],
)
def test_metadata_comes_from_the_own_host_which_sees_who_asks(
    lab: Lab, machine: str, expected: str
) -> None:
    give_addresses(lab)
    command = "curl -sS --max-time 5 http://169.254.169.254/latest/meta-data"

    assert lab.exec(machine, command).stdout == expected


def test_metadata_has_an_ipv6_address_too(lab: Lab) -> None:
    give_addresses(lab)
    text = lab.exec("a", "curl -sS -g --max-time 5 http://[fe80::a9fe:a9fe%25eth0]/")

    assert text.stdout.startswith("meta1 fe80::")


def test_rogue_server_is_not_heard(lab: Lab) -> None:
    give_addresses(lab)
    lab.exec("rogue", "ip addr replace 10.0.1.66/24 dev eth0")
    say = "echo x | nc -u -w 1 -p {port} 10.0.1.12 {to}"

    with lab.capture("b", expression="udp and src host 10.0.1.66") as capture:
        lab.exec("rogue", ["sh", "-c", say.format(port=67, to=68)], check=False)
        lab.exec("rogue", ["sh", "-c", say.format(port=69, to=68)], check=False)

    ports = {frame.data[34:36] for frame in capture.frames()}
    assert ports == {(69).to_bytes(2, "big")}
