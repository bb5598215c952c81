# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import yaml

from midoryu.nsdb.export import topology
from midoryu.nsdb.topology_file import parse


@pytest.mark.parametrize(
    "text",
    [
        "networks: {}",
        "networks: {n: {up: false, ports: {p: {iface_id: tap0, up: false}}}}",
        "routers: {a: {ports: {x: {router: b, peer: y}}}, b: {}}",
        "networks: {n: {ports: {r: {}}}}\nrouters: {r: {ports: {p: {network: n}}}}",
        "networks: {n: {}}\nrouters: {r: {ports: {p: {network: n}, q: {network: n}}}}",
        "networks: {n: {ports: {x: {router: r, peer: p, up: no}}}}\nrouters: {r: {}}",
        "chains: {c: {rules: [{drop: true, proto: 200, not_to: ['::/0']}]}}",
        "routers: {r: {dnat: [{address: '[2001:db8::1]:1-3/udp', to: 2001:db8::2}]}}",
        "hosts: [a, b]",
        "networks: {n: {ports: {p: {host: a, migrating_to: b}}}}",
        "networks: {n: {ports: {p: {}, q: {}}}}\nport_groups: {g: [n/p, n/q]}\n"
        "chains: {c: {keep_live: true, rules: [{accept: true, from_port_group: g, "
        "stateless: true, log: seen}, {drop: true, to_port_group: g}]}}",
        "routers: {r: {masquerade: [{from: 10.0.0.0/8, to: 203.0.113.1, "
        "filtering: endpoint-independent}]}}",
        "networks: {n: {mtu: 1400, ports: {p: {mtu: 1300}}}}",
        "routers: {r: {ports: {p: {mtu: 9000, mss_clamp: true}, q: {mss_clamp: 536}}}}",
        "networks: {n: {multicast_snooping: true, flood_unregistered: true, "
        "vlan_transparent: true, forward_bpdu: true, mac_limit: 9, qos: q}}\n"
        "qos: {q: {egress_kbps: 9, egress_burst_kb: 8, dscp: 0}}",
        "networks: {n: {ports: {p: {}, s: {parent: n/p, vlan: 7}, "
        "t: {parent: n/p, vlan: 8, storm_pps: 5, mac_limit: 3}}}}",
        "qos: {a: {ingress_kbps: 9, egress_kbps: 8, burst_kb: 7}, b: {dscp: 46}}",
        "networks: {n: {ports: {p: {}, q: {}, t: {}}}}\n"
        "mirrors: {m: {ports: [n/p, n/q], to: n/t}, "
        "o: {ports: n/p, to: n/t, direction: egress}}",
    ],
)
def test_what_a_file_said_is_written_and_read_as_the_same(text: str) -> None:
    items = parse(text, "f.yaml")

    written = yaml.safe_dump(topology(items.values()))

    assert parse(written, "g.yaml") == items
