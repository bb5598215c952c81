# SPDX-License-Identifier: Apache-2.0
"""The express lane: a further connection of a known kind, from bytes to bytes.

When `packet_lane` has carried out a replay (`simulation.replay`), it leaves a plan
here. A plan has all that siblings share: the messages with holes for what differs, who
is told of the record, where records are looked for. So a further sibling is a look-up
by the bytes of its headers, a port, a record, two flows and three numbers in each.

A plan lives as long as its template does. Whatever is not as usual (a record that is
there already, flows that a new record makes wrong, a table that is full, a vport that
has just moved) leaves the packet to `packet_lane`, before anything was changed: what
that does is what this does, to the byte (`tests/unit/engine/test_express.py`).
"""

from __future__ import annotations

from typing import Final, Optional

from midoryu.engine import answering, memory, returning, state_lane, switched
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.express_book import Answers, Plan
from midoryu.engine.flow_index import PlannedEntry
from midoryu.engine.flow_shape import (
    ADDRESS,
    DESTINATION,
    PORT,
    SOURCE,
    SOURCE_PORT,
    FlowShape,
    Numbers,
)
from midoryu.engine.headers import read_headers
from midoryu.openflow import flow
from midoryu.openflow.flow import Flow, InstallFlow, ReadyOut
from midoryu.packet import field
from midoryu.simulation.outcome import Forward, Simulation
from midoryu.simulation.template import Template
from midoryu.simulation.walk import PORT_PROTOCOLS
from midoryu.state.connection import Connection, Translation, TranslationKind
from midoryu.state.nat import Picked
from midoryu.topology.tag import Tag
from midoryu.translation.flows import Outputs

# Keys at most; a flood of made-up addresses must not fill memory.
_MAX_KEYS: Final = 4096
_MAX_ANSWERS: Final = 4096
_CODE: Final = (1 << 60) - 1
_NO_TRANSLATIONS: Final[tuple[Translation, ...]] = ()

_SET_SOURCE: Final = {flow.SET_IP_SRC: ADDRESS, flow.SET_L4_SRC: PORT}


def learn(
    core: Core,
    event: PacketIn,
    simulation: Simulation,
    installed: Flow,
) -> Optional[Plan]:
    """Keep how a replay was carried out, for the next of its siblings.

    Args:
        core: what is known.
        event: the packet.
        simulation: the replay.
        installed: the flow that stands for it now.

    Returns:
        The plan that it belongs to, None where siblings need `packet_lane`.
    """
    template = simulation.template
    if template is None:
        known = answering if simulation.found is not None else switched
        known.learn(core, event, simulation, installed)
        return None
    if template.plan is False or not core.express.is_on:
        return None
    plan = template.plan
    if plan is None:
        plan = _begin(core, event, template)
        template.plan = plan or False
    if not isinstance(plan, Plan):
        return None
    keeps_port = simulation.headers.l4_src == simulation.packet.headers.l4_src
    if keeps_port not in plan.outward:
        try:
            plan.outward[keeps_port] = _outward(core, plan, installed)
        except ValueError:
            # A message that numbers cannot be filled into.
            template.plan = False
            plan.outward.clear()
            return None
    return plan


def _begin(core: Core, event: PacketIn, template: Template) -> Optional[Plan]:
    config, model = core.config, template.simulation
    plans_by_key = core.express.plans
    read = read_headers(event)
    if (
        read is None
        or config.hold_first_packet_s > 0
        or core.places.vport_by_tag
        or core.storms
        or not isinstance(model.outcome, Forward)
    ):
        return None
    if len(plans_by_key) >= _MAX_KEYS:
        plans_by_key.clear()
    plan = Plan(template)
    plans = plans_by_key.setdefault(read[0], [])
    plans[:] = [one for one in plans if one.template.is_live]
    plans.append(plan)
    return plan


def learn_answer(
    core: Core, plan: Plan, simulation: Simulation, installed: Flow
) -> None:
    """Keep how a flow for answers looks, for those of the next siblings."""
    found = returning.model_of(core, simulation)
    made = simulation.headers
    if found is None or plan.proto not in PORT_PROTOCOLS:
        return
    tunnel_key, model = found
    before = simulation.packet.headers
    keeps_port = made.l4_src == before.l4_src
    key = (tunnel_key, before.ip_src, made.ip_src, keeps_port)
    answers = _answers(core, plan)
    if key in answers or len(answers) >= _MAX_ANSWERS:
        return
    looked_up = model.key

    def tags_of(numbers: Numbers) -> frozenset[Tag]:
        peer, port = numbers[DESTINATION], numbers[PORT]
        return frozenset(((*looked_up[:2], peer, *looked_up[3:-1], port),))

    shape = FlowShape(
        installed,
        match={field.IP_SRC: DESTINATION, field.L4_DST: PORT},
        actions={flow.SET_L4_DST: SOURCE_PORT},
        tags_of=tags_of,
        shared=model.tags,
        is_v4=plan.is_v4,
        returns=True,
    )
    answers[key] = (shape, *model.peers)


def _outward(core: Core, plan: Plan, installed: Flow) -> FlowShape:
    """Make the shape of a plan's forward flows from one of them.

    Raises:
        ValueError: numbers cannot be filled into their messages.
    """
    if installed.note:
        raise ValueError("each flow keeps its own record")
    proto, port = plan.proto, plan.port
    devices = [(one.device, one.translated) for one in plan.lookups]

    def tags_of(numbers: Numbers) -> frozenset[Tag]:
        source, destination, source_port, address, to_port = numbers
        return frozenset(
            (device, proto, address, destination, to_port, port)
            if translated
            else (device, proto, source, destination, source_port, port)
            for device, translated in devices
        )

    outputs = plan.template.outputs
    assert isinstance(outputs, Outputs)
    return FlowShape(
        installed,
        match={
            field.IP_SRC: SOURCE,
            field.IP_DST: DESTINATION,
            field.L4_SRC: SOURCE_PORT,
        },
        actions=_SET_SOURCE if plan.template.masquerade is not None else {},
        tags_of=tags_of,
        shared=plan.template.tags.union(outputs.tags),
        is_v4=plan.is_v4,
    )


def take(  # noqa: C901
    core: Core, event: PacketIn, effects: Effects, now: float
) -> bool:
    """Carry out a packet of a known kind.

    Returns:
        False where nothing was done: it is for `packet_lane`.
    """
    express = core.express
    read = read_headers(event)
    if read is None:
        return False
    plans = express.plans.get(read[0])
    if plans is None:
        return switched.take(core, event, effects, now) or (
            bool(express.answered)
            and _is_usual(core, now)
            and answering.take(core, event, read, effects, now)
        )
    _, source, destination, source_port, ends = read
    for plan in plans:
        first, last = plan.destinations
        if first <= destination <= last:
            first, last = plan.sources
            if first <= source <= last and plan.template.is_live:
                break
    else:
        return False
    connections, flows = core.connections, core.flows
    if (
        source in connections.targets
        or (plan.version != core.topology.interest_version and not _renew(core, plan))
        or plan.vport in core.moved_at
        or plan.vport in core.shares.limited
        or len(flows) + 1 >= core.config.max_flows
        or not _is_usual(core, now)
    ):
        return False
    proto, port = plan.proto, plan.port
    address, to_port, translation = 0, 0, None
    rule = plan.template.masquerade
    code = hash((proto, source, destination, source_port, port)) & _CODE
    if rule is not None:
        picked = core.nat.pick(
            rule.router, rule.addresses, proto, source, source_port, destination, port
        )
        if not isinstance(picked, Picked):
            return False
        address, to_port = picked
        keeps_port = to_port == source_port
        made_code = hash((proto, address, destination, to_port, port)) & _CODE
    else:
        keeps_port, made_code = True, code
    outward = plan.outward.get(keeps_port)
    if outward is None or connections.may_find(code) or connections.may_find(made_code):
        return False
    numbers = (source, destination, source_port, address, to_port)
    match = outward.code(numbers)
    if flows.is_taken(match):
        return False
    homeward, record = None, plan.record
    original = (source, destination, source_port, port)
    connection_id = 0
    if record is not None:
        back = (
            hash((proto, destination, address or source, port, to_port or source_port))
            & _CODE
        )
        if (
            connections.may_find(back)
            or not connections.has_room
            or flows.may_end_at(code)
            or flows.may_end_at(back)
        ):
            return False
        if rule is not None and core.blocks.ways:
            way = (plan.egress, rule.router, address)
            tunnel_key = core.blocks.ways.get(way, 0)
            if tunnel_key:
                answers = _answers(core, plan)
                found = answers.get((tunnel_key, source, address, keeps_port))
                if found is None or returning.is_crowded(core, plan.vport, 1):
                    return False
                homeward, first, last = found
                match_home = homeward.code(numbers)
                if not first <= destination <= last or flows.is_taken(match_home):
                    return False
        # Nothing was changed up to here.
        connection_id = core.new_connection_id()
        original = connections.share(original)
        translations = _NO_TRANSLATIONS
        if rule is not None:
            kind = TranslationKind.SOURCE
            translation = Translation(rule.router, kind, address, to_port)
            translations = (translation,)
        made = Connection(
            connection_id,
            proto,
            original,
            record.ingress_device,
            record.ingress_vport,
            record.egress_device,
            record.egress_vport,
            translations,
            core.host,
            record.phase,
            now,
        )
        connections.insert_fresh(made, code, back)
        if rule is not None:
            core.nat.commit_picked(made)
        if core.config.journal:
            memory.remember(core, made, effects, now)
        if core.replicator is not None and plan.peers:
            core.made.setdefault(plan.peers, []).append(made)
        express.records += 1
    core.packet_ins[plan.vport] += 1
    express.taken += 1
    made_ends = plan.numbers_of(address)
    cookie = core.new_cookie()
    entry = PlannedEntry(outward, cookie, match, connection_id, original, translation)
    flows.add_planned(entry, (code, made_code) if rule is not None else (code,))
    message = outward.fill(cookie, *ends, *made_ends, to_port)
    effects.flow_mods.append(InstallFlow(entry, message))
    actions = message[-outward.actions_bytes :]
    effects.packet_outs.append(ReadyOut(event.frame, actions, event.in_port, entry))
    if homeward is None:
        if connection_id:
            connections.hold_fresh(connection_id, 1)
        return True
    connections.hold_fresh(connection_id, 2)
    cookie = core.new_cookie()
    entry = PlannedEntry(
        homeward, cookie, match_home, connection_id, original, translation
    )
    flows.add_planned(entry, (back,))
    message = homeward.fill(cookie, *ends, *made_ends, to_port)
    effects.flow_mods.append(InstallFlow(entry, message))
    core.blocks.unproven[cookie] = connection_id, now
    express.answers += 1
    return True


def settle(core: Core) -> None:
    """Count what was taken since the last call, as `packet_lane` does one by one."""
    express, counters = core.express, core.counters
    taken = express.taken - express.counted
    express.counted = express.taken
    counters["packet-ins"] += taken
    counters["outcome forward"] += taken
    counters["packets out"] += taken
    counters["flows installed"] += taken + express.answers
    core.replays.replayed += taken
    if express.records:
        counters["connections made"] += express.records
    if express.answers:
        counters["return flows made ahead"] += express.answers
    express.records = express.answers = 0


def _is_usual(core: Core, now: float) -> bool:
    """Tell whether nothing is under way that makes packets a special case."""
    return (
        core.has_memory(now)
        and core.connections.is_plain
        and not core.nat.inbound.routers
        and not core.storms
        and not core.places.vport_by_tag
    )


def _renew(core: Core, plan: Plan) -> bool:
    """Ask again who shares a plan's connections, after rows have changed.

    Returns:
        False where the vport is on its way to this host or from it.
    """
    if core.topology.location(plan.vport) not in (0, core.host):
        return False
    record = plan.record
    if record is not None:
        plan.peers = state_lane.interested_peers(core, record)
    plan.version = core.topology.interest_version
    return True


def _answers(core: Core, plan: Plan) -> Answers:
    """Return the shapes of return flows that are still right."""
    if plan.answers_at != core.replays.generation:
        plan.answers.clear()
        plan.answers_at = core.replays.generation
    return plan.answers
