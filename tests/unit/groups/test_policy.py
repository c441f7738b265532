"""The policy's rules, and the seats that follow from them, for any history of events and policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from services.groups.core.domain import Facts, Placement, PlacementState, RoleIn
from services.groups.core.levels import SHIPPED
from services.groups.core.policy import (
    Cap,
    Fact,
    Policy,
    Rule,
    Want,
    default_policy,
    example_rules,
    faults,
    levels_it_names,
)
from services.groups.core.seating.drafts import Change, Review, draft
from tests.fixtures.ids import id_of
from tests.unit.groups.hall import NOW, Hall

LEVELS = ("state", "district", "block", "booth")
UNITS = ("BR", "BR-A", "BR-A-1", "BR-A-1-X", "BR-A-1-Y", "BR-B-2")
EVERY_NAME = {
    unit: {"en": unit, "hi": unit} for unit in (*UNITS, "BR-B", "BR-A-2", "BR-A-2-X") if unit != "BR-B-2"
}
"""`BR-B-2` is nowhere in the tree."""
KINDS = ("general", "women", "it_cell", "coordinators")
WOMAN = {"gender": "female", "asked": True, "roles": None}


def policy(
    version: int = 1,
    capacity: int = 3,
    groups: int | None = None,
    rules: Sequence[Rule] = example_rules(),
    levels: Sequence[str] = LEVELS,
) -> Policy:
    return Policy(version, tuple(levels), tuple(Cap(k, capacity, groups) for k in KINDS), tuple(rules))


def wanted(policy: Policy, unit: str, **facts: Any) -> dict[str, Want]:
    return policy.wanted(unit, Facts(at=1, **facts), is_out=False)


def test_where_the_shipped_example_seats_whom() -> None:
    roles = (RoleIn("coordinator", "BR-A-1"), RoleIn("it_cell", "BR-A-1-X"), RoleIn("youth", "BR"))
    assert wanted(policy(), "BR-A-1-X", gender="female", asked=True, roles=roles) == {
        "general": ("general", "BR-A-1-X"),
        "women": ("women", "BR-A-1"),
        "it_cell": ("it_cell", "BR-A"),
        "coordinators": ("coordinators", "BR-A"),
    }


@pytest.mark.parametrize(
    "facts", [{"gender": "female"}, {"asked": True}, {"gender": "other", "asked": True}, {}]
)
def test_only_women_who_asked_for_it_have_a_seat_in_a_womens_group(facts: dict[str, Any]) -> None:
    assert wanted(policy(), "BR-A-1-X", **facts).keys() == {"general"}


def test_whoever_is_above_the_level_of_a_group_has_no_seat_in_it() -> None:
    assert wanted(policy(), "BR-A", **WOMAN).keys() == {"general"}


def test_a_level_without_groups_is_seated_in_the_nearest_one_above() -> None:
    few = policy(levels=["district", "state"], rules=[Rule("general", "general")])
    assert wanted(few, "BR-A-1-X") == {"general": ("general", "BR-A")}
    assert few.uses("general", "BR-A")
    assert not few.uses("general", "BR-A-1")
    assert not few.uses("women", "BR-A")


def test_of_several_units_of_a_role_the_first_counts() -> None:
    roles = (RoleIn("it_cell", "BR-B-2"), RoleIn("it_cell", "BR-A-1"))
    assert wanted(policy(), "BR", roles=roles)["it_cell"] == ("it_cell", "BR-A")


def test_a_unit_deeper_than_the_levels_waits_and_breaks_nothing() -> None:
    assert wanted(policy(), "BR-A-1-X-Y")["general"] == ("general", "BR-A-1-X-Y")


def test_the_levels_of_a_policy_are_those_of_its_tree() -> None:
    """At most eight, with words of their own; what it gives does not follow the tree afterwards."""
    tree = ("nation", "state", "zone", "district", "block", "ward", "booth", "lane")
    rules = [Rule("general", "general"), replace(example_rules()[1], at="ward")]
    own = replace(policy(levels=["nation", "zone", "ward", "booth"], rules=rules), tree=tree)
    assert faults(own) == []
    code = "IN-BR-N-SRN-EKM-W-B-L"
    assert wanted(own, code, **WOMAN) == {"general": ("general", code[:-2]), "women": ("women", code[:-4])}
    assert wanted(own, "IN-BR-N-SRN-EKM", **WOMAN) == {"general": ("general", "IN-BR-N")}
    assert own.uses("women", code[:-4])
    assert not own.uses("women", code[:-2])
    assert not own.uses("general", code), "a lane has no groups of its own"
    bad = replace(own, levels=("nation", "block", "panchayat"), rules=(*own.rules, replace(rules[1], id="w")))
    assert {fault.path for fault in faults(bad)} == {"/levels/2", "/rules/1/at", "/rules/2/at"}
    shipped = replace(own, tree=SHIPPED)
    assert {fault.path for fault in faults(shipped)} == {"/levels/0", "/levels/1", "/levels/2", "/rules/1/at"}


def test_a_tree_keeps_the_levels_that_the_policy_names_where_they_are() -> None:
    now = policy(levels=["state", "district", "block"])
    assert levels_it_names(now, ["state", "district", "block", "booth", "lane"]) == []
    assert levels_it_names(now, ["state", "district", "block", "ward"]) == [], "it does not name the booth"
    assert levels_it_names(now, ["state", "zone", "district", "block"]) == ["district", "block"]
    assert levels_it_names(now, ["state"]) == ["district", "block"]


def test_each_rule_names_the_facts_it_depends_on() -> None:
    depends = {rule.id: rule.depends - {Fact.UNIT, Fact.STATUS, Fact.OWN_NUMBER} for rule in example_rules()}
    assert depends == {
        "general": set(),
        "women": {Fact.GENDER, Fact.CONSENT},
        "it_cell": {Fact.ROLES},
        "coordinators": {Fact.ROLES},
    }


def test_an_event_evaluates_only_the_rules_that_it_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(policy())
    member = id_of("m")
    hall.seat(Change(member, 1, "BR-A-1", states=WOMAN), names=EVERY_NAME)
    asked: list[str] = []
    real = Policy.wants

    def wants(self: Policy, rule: Rule, *args: Any, **kwargs: Any) -> Want | None:
        asked.append(rule.id)
        return real(self, rule, *args, **kwargs)

    monkeypatch.setattr(Policy, "wants", wants)
    for sequence, states, expected in (
        (2, {"roles": (RoleIn("it_cell", "BR-A"),)}, ["it_cell", "coordinators"]),
        (3, {"asked": None}, ["women"]),
        (4, {"asked": True}, []),
        (5, {"gender": "other"}, ["women"]),
    ):
        asked.clear()
        change = Change(member, sequence, "BR-A-1", states=states, places=False)
        draft(change, hall.placements[member], policy())
        assert asked == expected, states
    asked.clear()
    draft(Change(member, 6, "BR-A-1", states={"gender": "female"}), hall.placements[member], policy())
    assert asked == []


BAD: dict[str, tuple[Policy, str]] = {
    "nobody": (policy(rules=[]), "/rules"),
    "nobody has a general group": (policy(levels=[]), "/levels"),
    "nobody but the holders of a role": (
        policy(rules=[Rule("general", "general", role="x")]),
        "/rules/0/role",
    ),
    "everybody in a women's group": (
        policy(rules=[*example_rules(), Rule("all", "women", "block")]),
        "/rules/4/gender",
    ),
    "everybody in a cell": (policy(rules=[*example_rules(), Rule("all", "it_cell")]), "/rules/4/role"),
    "a rule twice": (policy(rules=[*example_rules(), example_rules()[1]]), "/rules/4/id"),
    "a second general rule": (policy(rules=[*example_rules(), Rule("more", "general")]), "/rules/4/kind"),
    "general by name only": (policy(rules=[Rule("general", "it_cell", role="x")]), "/rules/0/kind"),
    "a level without groups": (policy(levels=["booth"]), "/rules/1/at"),
    "a kind without a size": (replace(policy(), kinds=(Cap("general", 3),)), "/rules/1/kind"),
    "a kind twice": (replace(policy(), kinds=(*policy().kinds, Cap("general", 3))), "/kinds/4/kind"),
    "a level twice": (policy(levels=[*LEVELS, "block"]), "/levels/4"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_policy_that_cannot_be_meant_is_refused_by_field(name: str) -> None:
    bad, path = BAD[name]
    assert path in {fault.path for fault in faults(bad)}


def test_the_shipped_policies_are_without_fault() -> None:
    assert faults(default_policy(1024)) == faults(policy()) == []


GENERATED = tuple(phase for phase in Phase if phase is not Phase.explain)
"""Explaining a failure costs many times as much as finding it."""


# The wanted set, for any order of events with changes of the policy among them

facts = st.fixed_dictionaries(
    {
        "gender": st.sampled_from(["female", "male", None]),
        "asked": st.sampled_from([True, None]),
        "roles": st.sampled_from(
            [
                None,
                (RoleIn("it_cell", "BR-A-1"),),
                (RoleIn("coordinator", "BR-A-1-X"), RoleIn("it_cell", "BR-B")),
            ]
        ),
    }
)
event: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("whole"), st.sampled_from(UNITS), st.booleans(), facts),
    st.tuples(st.just("moved"), st.sampled_from(UNITS), st.booleans(), st.just({})),
    st.tuples(st.just("gender"), st.sampled_from(UNITS), st.just(False), facts),
    st.tuples(st.just("asked"), st.just("BR"), st.just(False), facts),
    st.tuples(st.just("roles"), st.just("BR"), st.just(False), facts),
)
rule_sets = st.sampled_from(
    [
        example_rules(),
        (Rule("general", "general", "block"), *example_rules()[1:3]),
        (Rule("general", "general"),),
        (Rule("general", "general"), Rule("ladies", "women", "district", "female", "group")),
    ]
)
policies = st.builds(
    policy,
    capacity=st.integers(1, 3),
    groups=st.one_of(st.none(), st.integers(1, 2)),
    rules=rule_sets,
    levels=st.sampled_from([LEVELS, ("state", "district", "block")]),
)


def change_of(member: str, sequence: int, said: tuple[str, str, bool, Mapping[str, Any]]) -> Change:
    what, unit, leaves, stated = said
    states = dict(stated) if what == "whole" else {what: stated[what]} if what in stated else {}
    return Change(member, sequence, unit, leaves, states, places=what in ("whole", "moved", "gender"))


def truth(history: Sequence[tuple[str, str, bool, Mapping[str, Any]]]) -> tuple[str, bool, Facts]:
    """Unit, whether the member is out, and facts, as events in their own order leave them."""
    unit, out, known = "", True, Facts(at=1)
    for what, where, leaves, stated in history:
        if what in ("whole", "moved", "gender"):
            unit, out = where, leaves
        if what == "whole":
            known = replace(known, **stated)
        elif what in stated:
            known = replace(known, **{what: stated[what]})
    return unit, out, known


@given(data=st.data(), histories=st.lists(st.lists(event, max_size=5), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None, phases=GENERATED)
def test_the_wanted_set_does_not_depend_on_the_order_of_events_and_policies(
    data: st.DataObject, histories: list[list[tuple[str, str, bool, Mapping[str, Any]]]]
) -> None:
    """Any interleaving and reordering of the members' events, repeated ones among them, and of policies, each
    applied by reviews in the order of member ids, as the job does. At any time: no group over capacity, no
    two seats of a rule, no seat lost or counted twice; at the end: everybody has or waits for what they
    want."""
    members = {id_of(n): [_first(), *said] for n, said in enumerate(histories)}
    changes = [
        change_of(member, sequence, said)
        for member, history in members.items()
        for sequence, said in enumerate(history, 1)
    ]
    order = data.draw(st.permutations([*changes, *data.draw(st.lists(st.sampled_from(changes), max_size=3))]))
    hall = Hall(default_policy(2))
    for number, change in enumerate(order):
        if data.draw(st.integers(0, 3)) == 0:
            hall.policy = replace(data.draw(policies), version=hall.policy.version + 1)
            if data.draw(st.booleans()):
                apply_policy(hall, NOW + timedelta(minutes=number))
        hall.seat(change, now=NOW + timedelta(minutes=number), names=EVERY_NAME)
        check(hall)
    apply_policy(hall, NOW + timedelta(days=1))
    check(hall)
    for member, history in members.items():
        unit, out, known = truth(history)
        has = {s.rule: (s.kind, s.unit) for s in hall.placements[member].held}
        assert has == hall.policy.wanted(unit, known, is_out=out)
        for seat in hall.placements[member].held:
            expected = seat.unit not in EVERY_NAME
            assert (seat.state is PlacementState.WAITING_UNIT) == expected
    for subject in {subject for subject, _ in hall.events}:
        own = [sequence for each, sequence in hall.events if each == subject]
        assert own == list(range(1, len(own) + 1))


@given(
    capacity=st.integers(1, 3),
    groups=st.integers(1, 2),
    moves=st.lists(st.one_of(st.just(None), st.integers(0, 30)), max_size=40),
)
@settings(deadline=None)
def test_whoever_wanted_a_seat_first_has_it_first(
    capacity: int, groups: int, moves: list[int | None]
) -> None:
    """Joins (None) and leaves (the n-th member goes) in a unit with a cap: the seated are always those who
    came first."""
    hall, present = Hall(policy(capacity=capacity, groups=groups)), []
    for minute, move in enumerate(moves):
        now = NOW + timedelta(minutes=minute)
        if move is None:
            member = f"{minute:08x}-0000-7000-8000-000000000000"
            present.append(member)
            hall.seat(Change(member, 1, "BR-A-1"), now=now, names=EVERY_NAME)
        elif present:
            member = present.pop(move % len(present))
            hall.seat(Change(member, 2, "BR-A-1", leaves=True), now=now, names=EVERY_NAME)
        check(hall)
        seated = [m for m in present if hall.placements[m].group_id]
        assert seated == present[: capacity * groups]
        waiting = [m for _, m, _ in hall.queue(("BR-A-1", "general"))]
        assert waiting == present[capacity * groups :]


def test_a_batch_keeps_the_order_of_arrival_too() -> None:
    """A seat is freed, and somebody new comes, in the transaction in which one who waits moves on as well."""
    hall = Hall(policy(capacity=1, groups=1))
    ids = [f"{n:08x}-0000-7000-8000-000000000000" for n in range(5)]
    for n, member in enumerate(ids[:4]):
        hall.seat(Change(member, 1, "BR-A-1"), now=NOW + timedelta(minutes=n), names=EVERY_NAME)
    hall.seat(
        Change(ids[4], 1, "BR-A-1"),
        Change(ids[2], 2, "BR-A-1", states={"gender": "female"}),
        Change(ids[0], 2, "BR-A-1", leaves=True),
        Change(ids[1], 2, "BR-A"),
        now=NOW + timedelta(hours=1),
        names=EVERY_NAME,
    )
    check(hall)
    assert hall.placements[ids[2]].state is PlacementState.ASSIGNED
    assert [m for _, m, _ in hall.queue(("BR-A-1", "general"))] == [ids[3], ids[4]]


def test_nobody_new_passes_those_who_wait_when_a_cap_is_raised() -> None:
    hall = Hall(policy(capacity=1, groups=1))
    ids = [f"{n:08x}-0000-7000-8000-000000000000" for n in (3, 2, 1)]
    for n, member in enumerate(ids):
        hall.seat(Change(member, 1, "BR-A-1"), now=NOW + timedelta(minutes=n), names=EVERY_NAME)
    hall.policy = policy(version=2, capacity=1, groups=2)
    new = id_of("new")
    hall.seat(Change(new, 1, "BR-A-1"), now=NOW + timedelta(hours=1), names=EVERY_NAME)
    check(hall)
    assert hall.placements[ids[1]].state is PlacementState.ASSIGNED
    assert [member for _, member, _ in hall.queue(("BR-A-1", "general"))] == [ids[2], new]


def test_what_is_not_known_of_a_member_takes_no_seat_away() -> None:
    """A database made anew from the log knows the seats before it knows why."""
    hall = Hall(policy())
    member = id_of("m")
    hall.seat(Change(member, 1, "BR-A-1", states=WOMAN), names=EVERY_NAME)
    hall.placements[member] = replace(hall.placements[member], facts=None)
    hall.seat(Review(member), names=EVERY_NAME)
    hall.seat(Change(member, 2, "BR-A-1"), names=EVERY_NAME)
    assert [seat.rule for seat in hall.placements[member].held] == ["general", "women"]
    hall.seat(Change(member, 3, "BR-A-1", states={**WOMAN, "gender": None}), names=EVERY_NAME)
    assert [seat.rule for seat in hall.placements[member].held] == ["general"]


def test_a_rebuilt_placement_stays_until_its_events_were_heard_again() -> None:
    hall = Hall(policy())
    member = id_of("m")
    said = [
        Change(member, 1, "BR-A-1", states={**WOMAN, "asked": None}),
        Change(member, 2, "BR", states={"asked": True}, places=False),
    ]
    for change in said:
        hall.seat(change, names=EVERY_NAME)
    lived = hall.placements[member]
    rebuilt = replace(lived, member_sequence=2, facts=Facts(until=2), policy=None)
    hall.placements[member], before = rebuilt, len(hall.events)
    for change in said:
        hall.seat(change, names=EVERY_NAME)
    assert len(hall.events) == before
    assert hall.placements[member] == replace(lived, member_sequence=2)


def test_leaving_frees_every_seat_and_coming_back_takes_them_again() -> None:
    hall = Hall(policy())
    member = id_of("m")
    hall.seat(Change(member, 1, "BR-A-1", states=WOMAN), names=EVERY_NAME)
    hall.seat(Change(member, 2, "BR-A-1", leaves=True), names=EVERY_NAME)
    gone = hall.placements[member]
    assert (gone.state, gone.held, sum(g.taken for g in hall.groups.values())) == (PlacementState.LEFT, (), 0)
    hall.seat(Change(member, 3, "BR-A-1"), names=EVERY_NAME)
    assert len(hall.placements[member].held) == 2


def _first() -> tuple[str, str, bool, Mapping[str, Any]]:
    return "whole", "BR-A-1", False, {"gender": None, "asked": None, "roles": None}


def apply_policy(hall: Hall, now: Any) -> None:
    for member in sorted(hall.placements):
        hall.seat(Review(member), now=now, names=EVERY_NAME)


def check(hall: Hall) -> None:
    held: list[Placement] = list(hall.placements.values())
    seated = Counter(group_id for placement in held for group_id in placement.group_ids)
    assert {g.id: g.taken for g in hall.groups.values() if g.taken} == dict(seated)
    assert all(g.taken <= g.capacity for g in hall.groups.values())
    for placement in held:
        rules = [seat.rule for seat in placement.held]
        assert len(rules) == len(set(rules))
        if placement.is_out:
            assert not rules
        for seat in placement.held:
            assert (seat.group_id is None) == seat.is_waiting
            if seat.group_id is not None:
                group = hall.groups[seat.group_id]
                assert (group.unit, group.kind, group.ordinal) == (seat.unit, seat.kind, seat.ordinal)
