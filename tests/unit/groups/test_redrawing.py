"""Random trees redrawn at random, by the rules of three services alone: nobody is lost, nobody is in two
units, no seat changes, and the books balance in whatever order the events come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.analytics.core.counting import Changes, Projection
from services.analytics.core.facts import Fact, learn
from services.analytics.projections.groups.fold import GROUPS
from services.analytics.projections.members.fold import MEMBERS
from services.analytics.projections.placements.fold import PLACEMENTS
from services.groups.core.domain import (
    Group,
    Placement,
    PlacementState,
    Unit,
    group_name,
    unit_upserted,
)
from services.groups.core.levels import SHIPPED
from services.groups.core.policy import Cap, Policy, default_policy, example_rules
from services.groups.core.seating.domain import demand_of, seat_members, short_of_seats
from services.groups.core.seating.drafts import Change, Review, draft
from services.groups.core.seating.group_seats import GroupSeats, Numbering, Pair
from services.groups.policy.domain import drift_of
from services.groups.recovery.domain import restored_levels
from services.groups.tree.csv_rows import Succession
from services.groups.tree.levels import level_of, levels_in_the_way
from services.groups.tree.redrawing.domain import (
    Held,
    Wanted,
    change_of,
    check_successions,
    handed_over,
    retired,
    retirement,
    wanted_predecessors,
)
from services.members.core.domain import Member
from services.members.core.terms import Term
from services.members.redrawing.domain import follow, redrawn_terms
from services.shared.contracts.base import Numbered
from services.shared.contracts.groups import GroupCreated
from services.shared.contracts.members import REDRAWN, MemberJoined
from services.shared.contracts.successions import parts_of, standing_for
from services.shared.contracts.vocabulary import Gender, parent_of
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 27, tzinfo=UTC)
CAPACITY = 3
POLICY = Policy(
    version=0,
    levels=default_policy(1).levels,
    kinds=(Cap("general", CAPACITY), Cap("women", CAPACITY)),
    rules=example_rules()[:2],
)
"""A general group in one's own unit, and the women's group of the block."""
WOMAN = {"gender": "female", "asked": True, "roles": None}


def unit_of(code: str, version: int = 1) -> Unit:
    name = {"en": f"Place {code}", "hi": code}
    return Unit(code, level_of(code, SHIPPED) or "", parent_of(code), name, version=version)


@dataclass
class Redraw:
    """The rows of a file: codes in their order, and what each succeeds."""

    codes: list[str] = field(default_factory=list)
    predecessors: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, code: str, *predecessors: str) -> None:
        self.codes.append(code)
        if predecessors:
            self.predecessors[code] = predecessors


def a_tree(random: Random) -> list[str]:
    codes = ["BR"]
    for district in range(random.randint(1, 2)):
        codes.append(f"BR-D{district}")
        for block in range(random.randint(0, 2)):
            codes.append(f"BR-D{district}-B{block}")
            codes += [f"BR-D{district}-B{block}-{n}" for n in range(random.randint(0, 3))]
    return codes


def a_redraw(random: Random, live: Sequence[str], mark: str) -> Redraw:
    """Blocks move or stay; booths move, are merged with the one before, are split, or stay. `mark` makes new
    codes new."""
    redraw = Redraw()
    names = count()

    def new() -> str:
        return f"{mark}{next(names)}"

    moved: dict[str, str] = {}
    for code in sorted(live, key=lambda each: (each.count("-"), each)):
        depth, parent = code.count("-"), parent_of(code)
        if depth < 2:
            redraw.add(code)
        elif depth == 2:
            if random.random() < 0.5:
                moved[code] = f"{parent}-{new()}"
                redraw.add(moved[code], code)
            else:
                redraw.add(code)
        else:
            above = moved.get(parent or "", parent)
            how = random.choice(["stay", "move", "merge", "split"])
            if how == "stay" and above == parent:
                redraw.add(code)
            elif (
                how == "merge"
                and redraw.codes[-1] in redraw.predecessors
                and redraw.codes[-1].count("-") == 3
            ):
                redraw.predecessors[redraw.codes[-1]] += (code,)
            else:
                for _ in range(2 if how == "split" else 1):
                    redraw.add(f"{above}-{new()}", code)
    return redraw


class World:
    """Three services in memory."""

    def __init__(self, codes: Sequence[str]) -> None:
        self.units = {code: unit_of(code) for code in codes}
        self.groups: dict[str, Group] = {}
        self.placements: dict[str, Placement] = {}
        self.members: dict[str, Member] = {}
        self.successors: dict[str, tuple[str, ...]] = {}
        self.events = [Numbered(unit_upserted(unit), 1) for unit in self.units.values()]
        self._ids = count(1)

    def join(self, unit: str) -> None:
        id_ = id_of(next(self._ids))
        self.members[id_] = Member(
            id=id_, name="A", unit=unit, gender="female", language="hi", joined_at=NOW, updated_at=NOW
        )
        joined = MemberJoined(member_id=id_, unit=unit, gender=Gender.FEMALE, language="hi", joined_at=NOW)
        self.events.append(Numbered(joined, 1))
        self.place(Change(id_, 1, unit, states=WOMAN))

    def live(self) -> list[str]:
        return [code for code, unit in self.units.items() if unit.is_live]

    def standing_for(self, unit: str) -> str | None:
        return standing_for(unit, self.successors)

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {unit: parts_of(unit, self.successors) for unit in self.successors}

    def place(self, request: Change | Review) -> None:
        answer = draft(request, self.placements.get(request.member_id), POLICY, self.parts())
        if answer is None:
            return
        seats = [
            GroupSeats(g.id, g.unit, g.kind, g.ordinal, g.capacity, g.taken, g.version)
            for g in self.groups.values()
        ]
        numbering: dict[Pair, Numbering] = {}
        for unit, kind in short_of_seats(demand_of([answer]), seats):
            own = [group.ordinal for group in seats if (group.unit, group.kind) == (unit, kind)]
            numbering[unit, kind] = Numbering(max(own, default=0), len(own))
        names = {code: unit.name for code, unit in self.units.items() if unit.is_live}
        seating = seat_members([answer], seats, numbering, names, POLICY, now=NOW)
        self.groups |= {group.id: group for group in seating.created}
        for after in seating.changed:
            self.groups[after.id] = replace(self.groups[after.id], taken=after.taken, version=after.version)
        for step in seating.steps:
            self.placements[step.state.member_id] = step.state
            self.events += step.events

    def compare(self, redraw: Redraw) -> list[tuple[str, tuple[str, ...], Unit | None]]:
        """Check the file and compare it: (code, successors, wanted) in the order of applying."""
        codes = dict(enumerate(redraw.codes, 2))
        lines = {code: line for line, code in codes.items()}
        named = {lines[code]: Succession(each) for code, each in redraw.predecessors.items()}
        assert check_successions(codes, named, "BR", set(self.live())) == []
        predecessors = wanted_predecessors(codes, named)
        wanted = [Wanted(unit_of(code), predecessors.get(code, ())) for code in redraw.codes]
        changes = [change_of(self.units.get(each.unit.code), each) for each in wanted]
        going = [code for code in self.live() if code not in lines]
        heirs = {code: [each for each in wanted if code in each.predecessors] for code in going}
        changes += [retirement(code, heirs[code], Held(1)) for code in going]
        assert not [change for change in changes if change and change.refused]
        return [(change.code, change.successors, change.wanted) for change in changes if change]

    def apply(self, changes: Sequence[tuple[str, tuple[str, ...], Unit | None]]) -> Iterator[None]:
        """One change at a time, and then the seats of each; in between, anything may happen."""
        for code, successors, wanted in changes:
            if wanted is not None:
                self.units[code] = wanted
                self.events.append(Numbered(unit_upserted(wanted), 1))
            elif self.units[code].is_live:
                self._retire(code, successors)
            yield
        for _, successors, wanted in changes:
            if wanted is None and successors:
                self._seats(successors)
            yield

    def _retire(self, code: str, successors: tuple[str, ...]) -> None:
        step = retired(self.units[code], successors, id_of(1), NOW)
        self.units[code], self.successors[code] = step.state, successors
        self.events += step.events
        theirs = [group for group in self.groups.values() if group.unit == code]
        heir = self.units[successors[0]]
        taken: dict[str, int] = {}
        for group in self.groups.values():
            if group.unit == heir.code:
                taken[group.kind] = max(taken.get(group.kind, 0), group.ordinal)
        for moved in handed_over(theirs, heir, {c: u.name for c, u in self.units.items()}, taken, NOW):
            self.groups[moved.state.id] = moved.state
            self.events += moved.events

    def _seats(self, successors: tuple[str, ...]) -> None:
        for placement in list(self.placements.values()):
            if any(self.groups[id_].unit == successors[0] for id_ in placement.group_ids):
                self.place(Review(placement.member_id, follows=True))

    def follow(self, member_id: str) -> None:
        """The members' job has come to this member, and groups hears of it."""
        member = self.members[member_id]
        now = self.standing_for(member.unit)
        if now is None or now == member.unit:
            return
        step = follow(member, (), {member.unit: now}, NOW).step
        self.members[member_id] = step.state
        self.events += step.events
        for event in step.events:
            self.place(Change(member_id, event.sequence, now, redrawn=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_is_lost_and_no_seat_changes(seed: int) -> None:
    random = Random(seed)
    world = World(a_tree(random))
    for _ in range(random.randint(0, 12)):
        world.join(random.choice(world.live()))
    held = {
        id_: (group.capacity, group.taken, group.kind, group.created_at)
        for id_, group in world.groups.items()
    }
    seats = {id_: placement.group_ids for id_, placement in world.placements.items()}
    first = list(world.members)
    for mark in ("X", "Y"):
        redraw = a_redraw(random, world.live(), mark)
        for _ in world.apply(world.compare(redraw)):
            if first and random.random() < 0.5:
                world.follow(random.choice(first))
            if random.random() < 0.1:
                world.join(random.choice(list(world.units)))
        assert world.compare(Redraw(redraw.codes)) == [], "the tree is as wanted"
    for id_ in world.members:
        world.follow(id_)

    assert {id_: world.placements[id_].group_ids for id_ in first} == seats
    for id_, (capacity, taken, kind, created_at) in held.items():
        group = world.groups[id_]
        assert (group.capacity, group.kind, group.created_at) == (capacity, kind, created_at)
        assert group.taken >= taken, "only those who join meanwhile"
        assert world.units[group.unit].is_live
        assert group.name == group_name(world.units[group.unit].name, group.ordinal, group.kind)
    places = Counter((group.unit, group.kind, group.ordinal) for group in world.groups.values())
    assert not [place for place, n in places.items() if n > 1]
    taken_now = Counter(id_ for p in world.placements.values() for id_ in p.group_ids)
    assert {id_: group.taken for id_, group in world.groups.items()} == {
        id_: taken_now[id_] for id_ in world.groups
    }
    for id_, member in world.members.items():
        live = world.units[member.unit].is_live
        parts = parts_of(member.unit, world.successors)
        assert all(world.units[part].is_live for part in parts)
        assert live == (world.standing_for(member.unit) == member.unit)
        assert live or len(parts) > 1, "in one live unit, or listed as unmapped"
        placement = world.placements[id_]
        assert list(drift_of(placement, POLICY, world.parts())) == []
        for group_id, seat in placement.by_group.items():
            group = world.groups[group_id]
            assert (seat.unit, seat.ordinal) == (group.unit, group.ordinal)
        if live:
            assert placement.unit == member.unit
            assert placement.state is PlacementState.ASSIGNED

    _books_balance(world, random)


def _books_balance(world: World, random: Random) -> None:
    """Analytics hears everything, in any order."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for event, sequence in world.events:
        numbers.setdefault((event.topic, event.subject), []).append(sequence)
    for heard in numbers.values():
        assert sorted(heard) == list(range(1, len(heard) + 1))
    order = random.sample(world.events, len(world.events))
    totals: Counter[tuple[str, str]] = Counter()
    for projection in (MEMBERS, GROUPS, PLACEMENTS):
        totals += _folded(projection, order)
    assert totals["*", "members.total"] == len(world.members)
    assert totals["*", "groups.total"] == len(world.groups)
    assert totals["*", "groups.taken"] == sum(group.taken for group in world.groups.values())
    for code in world.units:
        below = [m for m in world.members.values() if m.unit == code or m.unit.startswith(f"{code}-")]
        assert totals[code, "members.total"] == len(below)
        theirs = [g for g in world.groups.values() if g.unit == code or g.unit.startswith(f"{code}-")]
        assert totals[code, "groups.total"] == len(theirs)
        assert totals[code, "groups.taken"] == sum(group.taken for group in theirs)


def _folded(projection: Projection, events: Sequence[Numbered]) -> Counter[tuple[str, str]]:
    facts: dict[str, Fact] = {}
    changes = Changes()
    for event, sequence in events:
        mapping = projection.mappings.get(type(event))
        if mapping is None:
            continue
        old = facts.get(event.subject)
        after = learn(old or Fact(event.subject), sequence, mapping.states(event))
        if after is not None:
            changes.note(projection, old, after)
            facts[event.subject] = after
    return changes.totals


def test_what_succeeds_must_fit() -> None:
    codes = {2: "BR", 3: "BR-A", 4: "BR-B", 5: "BR-N"}

    def why(successions: dict[int, Succession], live: set[str]) -> list[str]:
        return [f"{e.pointer} {e.detail}" for e in check_successions(codes, successions, "BR", live)]

    assert why({}, {"BR", "BR-A", "BR-B"}) == []
    assert why({5: Succession(("BR-C",))}, {"BR-C"}) == []
    assert why({5: Succession(("BR-C",))}, set()) == ["/rows/5/predecessor is no live unit"]
    circle = {3: Succession((), ("BR-B",)), 4: Succession((), ("BR-A",))}
    assert len(why(circle, {"BR-A", "BR-B"})) == 2
    many = {line: Succession(("BR-C",)) for line in range(3, 100)}
    codes |= {line: f"BR-N{line}" for line in range(3, 100)}
    assert "/rows a unit is split into at most 64" in why(many, {"BR-C"})


def test_a_rebuild_finds_the_levels_in_the_units_and_in_the_policy() -> None:
    assert restored_levels({}, SHIPPED) == SHIPPED
    assert restored_levels({1: "state", 2: "district"}, SHIPPED) == SHIPPED
    own = ("nation", "state", "ward", "lane")
    assert restored_levels({1: "nation", 2: "state"}, own) == own
    assert restored_levels({1: "nation", 2: "state"}, SHIPPED) == ("nation", "state", "block", "booth")


def test_levels_stay_as_they_are_used() -> None:
    used = {1: "state", 2: "district"}
    assert levels_in_the_way(["state", "district", "ward", "block", "booth"], used) == []
    assert levels_in_the_way(["state", "zone", "district"], used) == [2]
    assert levels_in_the_way(["state"], used) == [2]


@given(
    st.lists(
        st.tuples(st.sampled_from(["r", "s"]), st.sampled_from(["A", "B", "C"]), st.integers(1, 9)),
        unique_by=lambda each: each[:2],
    )
)
def test_no_role_is_lost_or_held_twice(held: list[tuple[str, str, int]]) -> None:
    terms = [
        Term(id=str(n), member_id="m", role=role, unit=unit, since=NOW.replace(day=day))
        for n, (role, unit, day) in enumerate(held)
    ]
    after, changed, gone = redrawn_terms(terms, {"A": "C", "B": "C"})
    places = [(term.role, term.unit) for term in after]
    assert sorted(set(places)) == sorted(places)
    assert set(places) == {(role, "C") for role, _, _ in held}
    for term in after:
        assert term.since == min(each.since for each in terms if each.role == term.role)
    ids = {term.id for term in terms}
    assert {term.id for term in after} | {term.id for term in gone} == ids
    assert all(term in after for term in changed)
    assert redrawn_terms(after, {"A": "C", "B": "C"}) == (after, [], [])


@pytest.mark.parametrize("cause", ["move", REDRAWN])
def test_only_a_move_gives_another_seat(cause: str) -> None:
    world = World(["BR", "BR-A", "BR-B"])
    world.join("BR-A")
    [id_] = world.members
    before = world.placements[id_].group_id
    world.place(Change(id_, 2, "BR-B", redrawn=cause == REDRAWN))
    assert (world.placements[id_].group_id == before) == (cause == REDRAWN)
    assert world.placements[id_].unit == "BR-B"
    assert any(isinstance(event, GroupCreated) for event, _ in world.events)
