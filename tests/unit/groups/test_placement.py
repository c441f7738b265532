from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from services.groups.core.domain import GroupState, Placement, PlacementState, group_name
from services.groups.core.policy import default_policy
from services.groups.core.seating.domain import Seating, seat_members
from services.groups.core.seating.drafts import Change, Review, draft, is_newer
from services.groups.core.seating.group_seats import GroupSeats, Numbering
from services.shared.contracts.base import Event
from services.shared.contracts.groups import GroupCreated, GroupFilled, GroupMemberAssigned
from tests.fixtures.ids import id_of
from tests.unit.groups.hall import NAMES, NOW, Hall


def events(seating: Seating) -> list[Event]:
    return [event for step in seating.steps for event, _ in step.events]


def joins(*members: str, unit: str = "BR", sequence: int = 1) -> list[Change]:
    return [Change(id_of(member), sequence, unit) for member in members]


batches = st.lists(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["BR", "BR-A", None])), max_size=12))


@given(st.integers(1, 4), batches)
def test_seats_taken_are_members_seated_and_never_exceed_capacity(
    capacity: int, history: list[list[tuple[int, str | None]]]
) -> None:
    """Any history of joins, moves and leaves (None), in any transactions."""
    hall = Hall(capacity)
    for sequence, batch in enumerate(history, 1):
        changes = {
            member: Change(id_of(member), sequence, unit or "BR", leaves=unit is None)
            for member, unit in batch
        }
        hall.seat(*changes.values())
        seated = Counter(p.group_id for p in hall.placements.values() if p.group_id)
        assert {g.id: g.taken for g in hall.groups.values() if g.taken} == seated
        assert all(g.taken <= capacity for g in hall.groups.values())
    for unit in ("BR", "BR-A"):
        ordinals = sorted(g.ordinal for g in hall.groups.values() if g.unit == unit)
        assert ordinals == list(range(1, len(ordinals) + 1))
    for subject in {subject for subject, _ in hall.events}:
        own = [sequence for each, sequence in hall.events if each == subject]
        assert own == list(range(1, len(own) + 1))


@given(st.integers(1, 4), st.lists(st.one_of(st.just(None), st.integers(0, 50)), max_size=60))
def test_a_seat_is_that_of_the_lowest_open_ordinal(capacity: int, moves: list[int | None]) -> None:
    """Any sequence of joins (None) and leaves (the n-th seated member goes)."""
    hall, seated, ids = Hall(capacity), [], count()
    for move in moves:
        if move is None:
            lowest_open = min(
                (g.ordinal for g in hall.groups.values() if g.state is GroupState.OPEN),
                default=len(hall.groups) + 1,
            )
            member = id_of(next(ids))
            hall.seat(Change(member, 1, "BR"))
            assert hall.placements[member].ordinal == lowest_open
            seated.append(member)
        elif seated:
            hall.seat(Change(seated.pop(move % len(seated)), 2, "BR", leaves=True))


def test_units_do_not_share_groups() -> None:
    hall = Hall(2)
    hall.seat(
        *[
            Change(id_of(m), 1, unit)
            for m, unit in (("a", "BR-A"), ("b", "BR-B"), ("c", "BR-A"), ("d", "BR-A"))
        ]
    )
    seats = [(p.unit, p.ordinal) for p in hall.placements.values()]
    assert seats == [("BR-A", 1), ("BR-B", 1), ("BR-A", 1), ("BR-A", 2)]


def test_a_group_over_capacity_is_full_until_enough_have_left() -> None:
    """Its capacity was lowered by hand in the database: nobody is thrown out, nobody comes in."""
    hall = Hall(9, [GroupSeats(id_of("g1"), "BR", "general", 1, capacity=2, taken=4)])
    sits = Placement("", 1, 1, "BR", id_of("g1"), "general", 1, PlacementState.ASSIGNED, NOW)
    hall.placements = {m: replace(sits, member_id=m) for m in map(id_of, "abcd")}
    leave = [Change(id_of(m), 2, "BR", leaves=True) for m in "abc"]
    hall.seat(leave[0], *joins("e"))
    hall.seat(leave[1], *joins("f"))
    assert hall.taken() == [("BR", 1, 2), ("BR", 2, 2)]
    hall.seat(leave[2], *joins("g"))
    assert hall.taken() == [("BR", 1, 2), ("BR", 2, 2)]


def test_the_events_of_a_group_come_around_those_of_its_members() -> None:
    seating = Hall(2).seat(*joins("a", "b"))
    assert [type(event) for event in events(seating)] == [
        GroupCreated,
        GroupMemberAssigned,
        GroupMemberAssigned,
        GroupFilled,
    ]
    [group] = seating.created
    assert (group.taken, group.version, group.state) == (2, 2, GroupState.FULL)


def test_nothing_that_is_given_is_changed() -> None:
    hall = Hall(3)
    hall.seat(*joins("a", "b", "c", "d"))
    groups, placements = list(hall.groups.values()), dict(hall.placements)
    copies = [tuple(group) for group in groups], dict(placements)
    last = {("BR", "general"): Numbering(2, 2)}
    policy = default_policy(3)
    changes = [*joins("a", unit="BR-A", sequence=2), *joins("e"), Change(id_of("b"), 2, "BR", leaves=True)]
    drafts = [draft(change, placements.get(change.member_id), policy) for change in changes]
    seat_members([d for d in drafts if d], groups, last, NAMES, policy, now=NOW)
    assert ([tuple(group) for group in groups], placements) == copies
    assert last == {("BR", "general"): Numbering(2, 2)}


def test_a_member_who_stays_is_told_nothing_and_keeps_the_time_since_when() -> None:
    hall, later = Hall(3), NOW + timedelta(days=1)
    hall.seat(
        *joins("seated"), Change(id_of("waiting"), 1, "BR-X"), Change(id_of("gone"), 1, "BR", leaves=True)
    )
    before = dict(hall.placements)
    again = hall.seat(
        Change(id_of("seated"), 2, "BR"),
        Change(id_of("waiting"), 2, "BR-X"),
        Change(id_of("gone"), 2, "BR", leaves=True),
        now=later,
    )
    assert events(again) == []
    assert not again.created
    assert not again.changed
    assert hall.placements == {m: replace(p, member_sequence=2) for m, p in before.items()}


def test_a_waiting_member_is_seated_once_the_unit_is_known() -> None:
    hall = Hall(3)
    [change] = joins("m", unit="BR-A")
    hall.seat(change, names={})
    waiting = hall.placements[change.member_id]
    hall.seat(Review(change.member_id))
    seated = hall.placements[change.member_id]
    assert (waiting.state, seated.state) == (PlacementState.WAITING_UNIT, PlacementState.ASSIGNED)


def test_only_newer_changes_are_applied() -> None:
    known = Placement("m", 3, 1, "BR", "g", "general", 1, PlacementState.ASSIGNED, NOW)
    assert not is_newer(Change("m", 3, "BR"), known)
    assert is_newer(Change("m", 4, "BR"), known)
    assert is_newer(Change("n", 1, "BR"), None)


def test_names_in_both_scripts() -> None:
    unit = {"en": "Saran", "hi": "सारण"}
    assert group_name(unit, 1) == {"en": "Saran group", "hi": "सारण समूह"}
    assert group_name(unit, 2) == {"en": "Saran group 2", "hi": "सारण समूह 2"}
