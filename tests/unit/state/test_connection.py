# SPDX-License-Identifier: Apache-2.0
"""Tuples and keys: a packet finds its record at every device on its way."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from midoryu.packet import protocol
from midoryu.state.connection import (
    Connection,
    Direction,
    FourTuple,
    Phase,
    StateKey,
    Translation,
    TranslationKind,
    direction_of,
    mark_of,
    query_ports,
    reverse,
    state_keys,
    supersedes,
    translate,
)

CLIENT, SERVER, NAT, VIP = 1, 2, 3, 4
NETWORK, TENANT, PROVIDER = 10, 20, 30
SMALL = st.integers(1, 5)
TRANSLATIONS = st.lists(
    st.builds(
        Translation, st.integers(10, 13), st.sampled_from(TranslationKind), SMALL, SMALL
    ),
    max_size=4,
).map(tuple)


def connection(*translations: Translation, **fields: int) -> Connection:
    made = Connection(
        id=1,
        ip_proto=protocol.TCP,
        original=(CLIENT, SERVER, 1000, 80),
        ingress_device=NETWORK,
        ingress_vport=11,
        egress_device=PROVIDER,
        egress_vport=31,
        translations=translations,
        owner=1,
        phase=Phase.TCP_TRANSITORY,
    )
    return replace(made, **fields)


def source(address: int, port: int, device: int = TENANT) -> Translation:
    return Translation(device, TranslationKind.SOURCE, address, port)


def test_a_masqueraded_connection_is_found_at_both_ends_and_at_its_router() -> None:
    keys = dict(state_keys(connection(source(NAT, 5000))))
    assert keys == {
        (NETWORK, 6, CLIENT, SERVER, 1000, 80): Direction.FORWARD,
        (TENANT, 6, CLIENT, SERVER, 1000, 80): Direction.FORWARD,
        (PROVIDER, 6, SERVER, NAT, 80, 5000): Direction.RETURN,
        (TENANT, 6, SERVER, NAT, 80, 5000): Direction.RETURN,
    }


def test_a_plain_connection_is_found_by_its_two_tuples() -> None:
    keys = dict(state_keys(connection()))
    assert keys == {
        (NETWORK, 6, CLIENT, SERVER, 1000, 80): Direction.FORWARD,
        (PROVIDER, 6, SERVER, CLIENT, 80, 1000): Direction.RETURN,
    }


def test_two_translations_at_one_router_are_undone_together() -> None:
    there = Translation(TENANT, TranslationKind.DESTINATION, SERVER, 8080)
    made = connection(there, source(NAT, 5000), original=(CLIENT, VIP, 1000, 80))  # type: ignore[arg-type]
    keys = dict(state_keys(made))
    assert keys[(TENANT, 6, CLIENT, VIP, 1000, 80)] is Direction.FORWARD
    assert keys[(TENANT, 6, SERVER, NAT, 8080, 5000)] is Direction.RETURN
    assert (TENANT, 6, SERVER, CLIENT, 8080, 1000) not in keys


@given(TRANSLATIONS, st.tuples(SMALL, SMALL, SMALL, SMALL), st.data())
def test_direction_of_says_what_the_list_of_keys_says(
    translations: tuple[Translation, ...], original: FourTuple, data: st.DataObject
) -> None:
    made = replace(connection(*translations), original=original, egress_device=13)
    made.ingress_device = 10
    keys = dict(state_keys(made))
    for key, direction in keys.items():
        assert direction_of(made, key) is direction
    device = data.draw(st.integers(9, 14))
    any_key: StateKey = (device, 6, *data.draw(st.tuples(SMALL, SMALL, SMALL, SMALL)))
    assert direction_of(made, any_key) is keys.get(any_key)
    other_proto = (any_key[0], 17, *any_key[2:])
    assert direction_of(made, other_proto) is None


@given(st.tuples(SMALL, SMALL, SMALL, SMALL))
def test_reversing_twice_changes_nothing(tuple4: FourTuple) -> None:
    assert reverse(reverse(tuple4)) == tuple4


def test_each_kind_rewrites_its_end_only() -> None:
    tuple4 = (CLIENT, SERVER, 1000, 80)
    for kind in TranslationKind:
        there = translate(tuple4, Translation(TENANT, kind, 9, 99))
        if kind.name.endswith("SOURCE"):
            assert there == (9, SERVER, 99, 80)
        else:
            assert there == (CLIENT, 9, 1000, 99)


def test_a_ping_and_its_answer_are_one_connection() -> None:
    # RFC 5508, section 3.1.
    for proto, request, answer in (
        (protocol.ICMP, 8, 0),
        (protocol.ICMP, 13, 14),
        (protocol.ICMPV6, 128, 129),
    ):
        there = query_ports(proto, request, 77)
        back = query_ports(proto, answer, 77)
        assert there == (77, request)
        assert back == (request, 77)
    assert query_ports(protocol.ICMP, 3, 77) is None
    assert query_ports(protocol.ICMPV6, 8, 77) is None


def test_of_two_records_with_one_id_exactly_one_is_in_force_everywhere() -> None:
    old, new = connection(), connection(version=1)
    assert supersedes(new, old)
    assert not supersedes(old, new)
    here, there = connection(egress_vport=31), connection(egress_vport=32)
    assert supersedes(here, there) is not supersedes(there, here)
    assert not supersedes(connection(), connection())


def test_the_mark_of_a_record_shows_its_places_and_translations_and_nothing_else() -> (
    None
):
    one = connection()
    nat = Translation(TENANT, TranslationKind.SOURCE, NAT, 7)
    other_nat = nat._replace(port=8)
    states = [
        one,
        replace(one, egress_vport=77),
        replace(one, ingress_vport=77),
        replace(one, egress_device=77),
        replace(one, translations=(nat,)),
        replace(one, translations=(other_nat,)),
    ]
    assert len(set(map(mark_of, states))) == len(states)
    assert mark_of(replace(one, phase=Phase.UDP, last_used=9.0)) == mark_of(one)
