# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.errors import TopologyError
from midoryu.nsdb.topology_file import parse

ROUTER = "routers: {r: {ports: {p: {ip: 10.0.0.1/24}}, %s}}"
RULE = "chains: {c: {rules: [{%s}]}}"


def problems(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        parse(text, "f.yaml")
    return str(caught.value).splitlines()


def columns(text: str, table: str, name: str) -> dict[str, object]:
    return dict(parse(text, "f.yaml")[table, name].columns)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.yaml:1:1: top level: the file is empty"),
        ("a: [", "f.yaml:1:5: top level: not YAML"),
        ("- a", "f.yaml:1:1: top level: must be a mapping, is a list"),
        ("networks: {}\n---\nnetworks: {}", "top level: not YAML"),
        ("[" * 5000, "nested too deeply"),
        ("a: &x [*x]", "a: unknown key"),
        (
            "netwroks: {}",
            "f.yaml:1:11: netwroks: unknown key; did you mean 'networks'?",
        ),
        ("networks: {n: {color: 1}}", "networks.n.color: unknown key; known: ports"),
        ("networks: {n: {}, n: {}}", "f.yaml:1:19: networks.n: is there twice"),
        ("networks: {n: 5}", "networks.n: must be a mapping, is a value"),
        ("networks: {'a b': {}}", "'a b' cannot be a name"),
        ("networks: {a/b: {}}", "'a/b' cannot be a name"),
        ("networks: {x: {}}\nrouters: {x: {}}", "there is a network 'x' too"),
        ("networks: {n: {up: maybe}}", "networks.n.up: 'maybe' is neither true nor"),
        ("networks: {n: {ingress: c}}", "n.ingress: there is no chain 'c'"),
        (
            "networks: {n: {ingress: vm-im}}\nchains: {vm-in: {}}",
            "there is no chain 'vm-im'; did you mean 'vm-in'?",
        ),
        ("networks: {n: {ports: {p: {mac: 1:2}}}}", "'1:2' is not a MAC address"),
        (
            "networks: {n: {ports: {p: {mac: '01:00:5e:00:00:01'}}}}",
            "is not the MAC address of one station",
        ),
        ("networks: {n: {ports: {p: {ip: 10.0.0}}}}", "n.ports.p.ip: '10.0.0'"),
        ("networks: {n: {ports: {p: {ip: 10.0.0.0/24}}}}", "own or broadcast"),
        ("networks: {n: {ports: {p: {ip: 224.0.0.1}}}}", "no address of one station"),
        ("networks: {n: {ports: {p: {ip: '::ffff:1.2.3.4'}}}}", "IPv4-mapped"),
        ("networks: {n: {ports: {p: {ip: [10.0.0.1, 10.0.0.1]}}}}", "is there twice"),
        (
            "routers: {r: {ports: {p: {ip: 10.0.0.1}}}}",
            "needs the length of its subnet",
        ),
        ("networks: {n: {ports: {p: {network: n}}}}", "links to routers only"),
        ("networks: {n: {ports: {p: {peer: x}}}}", "needs `network` or `router`"),
        ("routers: {r: {ports: {p: {network: m}}}}", "p.network: there is no network"),
        (
            "networks: {n: {}}\nrouters: {r: {ports: {p: {network: n, host: h}}}}",
            "a linked port is not bound",
        ),
        (
            "routers: {a: {ports: {x: {router: b, peer: y}}}, b: {ports: {y: {}}}}",
            "b/y is no peer of it; write `router: a, peer: x` there",
        ),
        ("routers: {a: {ports: {x: {router: a, peer: x}}}}", "is linked to itself"),
        (
            "networks: {n: {ports: {a: {ip: 10.0.0.1}, b: {ip: 10.0.0.1/24}}}}",
            "f.yaml:1:51: networks.n.ports.b.ip: address 10.0.0.1 is n/a's already",
        ),
        (
            "networks: {n: {ports: {a: {ip: 10.0.0.1}}}}\n"
            "routers: {r: {ports: {n: {network: n, ip: 10.0.0.1/24}}}}",
            "address 10.0.0.1 is n/a's already",
        ),
        (
            "routers: {r: {ports: {a: {ip: 10.0.0.1/24}, b: {ip: 10.0.0.1/30}}}}",
            "address 10.0.0.1 is r/a's already",
        ),
        (
            "networks: {n: {ports: {a: {mac: '02:00:00:00:00:01'}, "
            "b: {mac: '02:00:00:00:00:01'}}}}",
            "MAC address 02:00:00:00:00:01 is n/a's already",
        ),
        (
            "networks: {n: {ports: {a: {iface_id: x}, b: {iface_id: x}}}}",
            "iface_id x is n/a's already",
        ),
        (ROUTER % "routes: [{via: 10.0.0.2}]", "routes[0]: needs `to`"),
        (ROUTER % "routes: [{to: 10.1.0.0/16}]", "needs `via`, `port`, `blackhole"),
        (ROUTER % "routes: [{to: 10.1.0.1/16, via: 10.0.0.2}]", "has host bits set"),
        (ROUTER % "routes: [{to: 10.1.0.0/16, via: 10.9.0.2}]", "is in no subnet of r"),
        (ROUTER % "routes: [{to: '::/0', via: 10.0.0.2}]", "another address family"),
        (ROUTER % "routes: [{to: 1.0.0.0/8, port: q}]", "there is no port of r 'q'"),
        (
            ROUTER % "routes: [{to: 1.0.0.0/8, port: p, weight: 0}]",
            "'0' is not a number from 1 to 255",
        ),
        (
            ROUTER % "routes: [{to: 1.0.0.0/8, blackhole: true, port: p}]",
            "only one of them",
        ),
        (
            ROUTER % "routes: [{to: 1.0.0.0/8, port: p}, {to: 1.0.0.0/8, port: p}]",
            "routes[1]: is there twice",
        ),
        (ROUTER % "routes: {to: 1.0.0.0/8}", "r.routes: must be a list, is a mapping"),
        (ROUTER % "masquerade: [{from: 10.0.0.0/8}]", "needs `to`, the NAT address"),
        (
            ROUTER % "masquerade: [{to: [1.1.1.1, '2001:db8::1']}]",
            "mixes IPv4 and IPv6",
        ),
        (ROUTER % "dnat: [{address: 1.1.1.1:80, to: 10.0.0.2}]", "needs a protocol"),
        (
            ROUTER % "dnat: [{address: '1.1.1.1:80-90/tcp', to: '10.0.0.2:1-2'}]",
            "the two port ranges differ in size",
        ),
        (
            ROUTER % "dnat: [{address: '1.1.1.1:80-90/tcp', to: 10.0.0.2}, "
            "{address: '1.1.1.1:85/tcp', to: 10.0.0.3}]",
            "translates what routers.r.dnat[0] translates already",
        ),
        (
            ROUTER % "floating: [{address: 1.1.1.1, to: '2001:db8::1'}]",
            "different address families",
        ),
        (RULE % "proto: tcp", "needs one action"),
        (RULE % "accept: true, drop: true", "has 2"),
        (RULE % "accept: false", "an action is written `true`"),
        (RULE % "jump: d", "there is no chain 'd'"),
        (RULE % "jump: c", "chains jump in a circle, back to 'c'"),
        (RULE % "accept: true, ct: establishd", "did you mean 'established'?"),
        (RULE % "accept: true, proto: tpc", "'tpc' is no protocol"),
        (RULE % "accept: true, to_port: 80", "needs `proto: tcp`"),
        (RULE % "accept: true, proto: tcp, to_port: 99999", "is not a range of ports"),
        (RULE % "accept: true, icmp_type: 8", "needs `proto: icmp`"),
        (RULE % "accept: true, from: 1.0.0.0/8, not_from: 2.0.0.0/8", "use one of"),
        (RULE % "accept: true, from: []", "names nothing"),
        (RULE % "accept: true, from_group: g", "there is no group 'g'"),
        ("groups: {g: [10.0.0.1/8]}", "groups.g[0]: 10.0.0.1/8 has host bits set"),
        ("ingress_sets: {s: [n/p]}", "ingress_sets.s[0]: there is no port 'n/p'"),
        ("hosts: {h: {underlay: x}}", "hosts.h.underlay: 'x'"),
    ],
)
def test_bad_file_is_told_where_and_why(text: str, said: str) -> None:
    found = problems(text)

    assert any(said in line for line in found), found
    assert all(line.startswith("f.yaml:") for line in found)


def test_all_problems_are_told_at_once_in_order() -> None:
    found = problems("networks:\n  a: {up: x}\n  b: {colour: 1}\n  c: {ingress: q}\n")

    assert [line.split(": ")[0] for line in found] == [
        "f.yaml:2:11",
        "f.yaml:3:15",
        "f.yaml:4:16",
    ]


def test_router_link_makes_the_network_port_named_after_the_router() -> None:
    text = "networks: {n: {}}\nrouters: {r: {ports: {p: {network: n}}}}"

    assert columns(text, "Port", "n/r")["peer"] == "r/p"
    assert columns(text, "Port", "r/p")["peer"] == "n/r"


def test_taken_name_gives_way_to_router_and_port() -> None:
    text = (
        "networks: {n: {ports: {r: {host: h}}}}\n"
        "routers: {r: {ports: {p: {network: n}}}}"
    )

    assert columns(text, "Port", "n/r-p")["peer"] == "r/p"
    assert columns(text, "Port", "n/r")["peer"] is None


def test_link_that_one_router_names_makes_the_other_end() -> None:
    text = "routers: {a: {ports: {x: {router: b, peer: y}}}, b: {}}"

    assert columns(text, "Port", "b/y")["peer"] == "a/x"


def test_generated_mac_is_stable_local_and_of_one_station() -> None:
    text = "routers: {r: {ports: {p: {ip: 10.0.0.1/24}, q: {}}}}"

    mac = columns(text, "Port", "r/p")["mac"]

    assert isinstance(mac, str)
    assert mac.startswith("02:")
    assert mac == columns(text, "Port", "r/p")["mac"]
    assert mac != columns(text, "Port", "r/q")["mac"]


def test_unquoted_mac_is_text_and_not_a_number_of_base_60() -> None:
    text = "networks: {n: {ports: {p: {mac: 02:00:00:00:01:01}}}}"

    assert columns(text, "Port", "n/p")["mac"] == "02:00:00:00:01:01"


def test_hosts_follow_from_ports() -> None:
    found = parse("networks: {n: {ports: {p: {host: h}}}}", "f.yaml")

    assert ("Host", "h") in found


def test_two_uplinks_may_share_a_subnet() -> None:
    parse(
        "routers: {r: {ports: {a: {ip: 192.0.2.2/24}, b: {ip: 192.0.2.3/24}}}}",
        "f.yaml",
    )


GOOD = """
networks:
  n: {ports: {a: {host: h, ip: [10.0.0.5, '2001:db8::5'], allowed: [{ip: 1.0.0.0/8}]}}}
routers:
  r:
    ports: {p: {network: n, ip: 10.0.0.1/24}, q: {router: s, peer: t}}
    routes: [{to: 0.0.0.0/0, via: 10.0.0.9, weight: 2}, {to: '::/0', reject: true}]
    masquerade: [{from: 10.0.0.0/24, to: [1.1.1.1], port: q}]
    dnat: [{address: '1.1.1.2:80-90/tcp', to: '10.0.0.5:80'}]
  s: {}
chains: {c: {rules: [{jump: d, proto: tcp, to_port: [1, 2-3]}]}, d: {policy: drop}}
groups: {g: [10.0.0.0/8]}
ingress_sets: {w: [n/a]}
"""


def _reads_or_says_where(text: str) -> None:
    said = ""
    try:
        parse(text, "f.yaml")
    except TopologyError as problem:
        said = str(problem)
    assert not said or said.startswith("f.yaml:")


@given(st.text(alphabet="networks:{}[]- \n'\"&*!|>%@`,rp0.1/", max_size=60))
def test_any_text_is_a_topology_or_a_topology_error(text: str) -> None:
    _reads_or_says_where(text)


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 12),
    st.text(alphabet="{}[]:,-'/ \n0aé\x00", max_size=4),
)
def test_any_cut_in_a_good_file_is_read_or_told(at: int, cut: int, put: str) -> None:
    _reads_or_says_where(GOOD[:at] + put + GOOD[at + cut :])


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("drop: true, stateless: true", "belongs to a rule that accepts"),
        ("drop: true, from_port_group: g", "there is no port group 'g'"),
        ("drop: true, keep_live: true", "unknown key"),
    ],
)
def test_wrong_filter_option_is_told(rule: str, said: str) -> None:
    (problem,) = problems(RULE % rule)

    assert said in problem


def test_address_group_and_port_group_do_not_go_together() -> None:
    text = (
        "networks: {n: {ports: {p: {}}}}\nport_groups: {g: [n/p]}\n"
        "groups: {a: [10.0.0.1]}\n" + RULE % "drop: true, to_group: a, to_port_group: g"
    )

    (problem,) = problems(text)

    assert "stands beside `to_group`" in problem


def test_groups_of_ports_are_of_two_kinds() -> None:
    text = "networks: {n: {ports: {p: {}}}}\nport_groups: {g: [n/p]}\ningress_sets: "

    assert columns(text + "{s: [n/p]}", "Port_Group", "g")["stateful"] is False
    assert columns(text + "{s: [n/p]}", "Port_Group", "s")["stateful"] is True
    (problem,) = problems(text + "{g: [n/p]}")
    assert "is there twice" in problem


def test_filtering_is_one_of_three() -> None:
    masquerade = "masquerade: [{to: 203.0.113.1, filtering: %s}]"
    name = "r masquerade 203.0.113.1 from 0.0.0.0/0"

    kept = columns(ROUTER % (masquerade % "address-dependent"), "Nat", name)
    assert kept["filtering"] == "address-dependent"
    (problem,) = problems(ROUTER % (masquerade % "endpoint"))
    assert "is not one of endpoint-independent" in problem
