"""Reconciling rosters: the order of rosters does not matter, nor the same one twice, and only a complete one
proves an absence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.groups.core.domain import Group, Placement, PlacementState
from services.groups.core.observations.domain import (
    MAX_REINVITES,
    Cause,
    Observation,
    invited,
    lapsed,
    link_was_reset,
    new_observation,
    seated,
)
from services.groups.rosters.domain import Reconciled, is_of_another_group, reconcile
from services.shared.contracts.groups import GroupMemberObserved
from tests.fixtures.ids import id_of

SINCE = datetime(2026, 6, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PATIENCE = timedelta(days=3)
GROUP = Group(id_of("g"), "BR-A", "general", 1, 9, SINCE, SINCE)
OTHER = replace(GROUP, id=id_of("h"), ordinal=2)
HERE = [id_of(name) for name in "abc"]
ELSEWHERE, NOWHERE = id_of("d"), id_of("e")


def placement(member_id: str, group_id: str | None, since: datetime = SINCE) -> Placement:
    state = PlacementState.ASSIGNED if group_id else PlacementState.LEFT
    return Placement(member_id, 1, 1, "BR-A", group_id, "general", 1 if group_id else None, state, since)


EVERYBODY = [
    *(placement(id_, GROUP.id) for id_ in HERE),
    placement(ELSEWHERE, OTHER.id),
    placement(NOWHERE, None),
]


@dataclass(frozen=True)
class Roster:
    day: int
    complete: bool
    present: frozenset[str]

    @property
    def taken_at(self) -> datetime:
        return SINCE + timedelta(days=self.day)


def apply(rosters: Sequence[Roster]) -> tuple[dict[str, Observation], list[Reconciled]]:
    known: dict[str, Observation] = {}
    results = []
    for roster in rosters:
        results.append(once(roster, known))
        known |= {change.after.id: change.after for change in results[-1].changes}
    return known, results


def once(roster: Roster, known: dict[str, Observation]) -> Reconciled:
    return reconcile(
        GROUP,
        EVERYBODY,
        known,
        roster.present,
        roster.taken_at,
        complete=roster.complete,
        patience=PATIENCE,
        now=NOW,
    )


def facts(known: dict[str, Observation]) -> dict[str, tuple[object, ...]]:
    return {
        each.member_id: (each.state, each.cause, each.present_at, each.absent_at, each.due_at)
        for each in known.values()
        if each.present_at or each.seat
    }


ROSTERS = st.builds(
    Roster,
    st.integers(1, 40),
    st.booleans(),
    st.frozensets(st.sampled_from([*HERE, ELSEWHERE, NOWHERE])),
)


@given(st.lists(ROSTERS, max_size=6).flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))))
def test_the_order_of_rosters_does_not_matter(pair: tuple[list[Roster], list[Roster]]) -> None:
    first, second = (
        {id_: fact for id_, fact in facts(apply(rosters)[0]).items() if id_ in HERE} for rosters in pair
    )
    assert first == second


@given(st.lists(ROSTERS, max_size=5), ROSTERS)
def test_a_roster_twice_is_as_good_as_once(rosters: list[Roster], last: Roster) -> None:
    known, _ = apply([*rosters, last])
    again = once(last, known)
    assert (list(again.changes), list(again.events)) == ([], [])


@given(st.lists(ROSTERS, max_size=6))
def test_only_a_complete_roster_proves_an_absence(rosters: list[Roster]) -> None:
    known, _ = apply([replace(each, complete=False) for each in rosters])
    assert {each.absent_at for each in known.values()} <= {None}
    assert {each.cause for each in known.values()} <= {None, Cause.TWO_GROUPS, Cause.NO_SEAT}


@given(st.lists(ROSTERS, min_size=1, max_size=6))
def test_the_events_tell_the_last_state_and_are_numbered_without_a_gap(rosters: list[Roster]) -> None:
    known: dict[str, Observation] = {}
    sequences = dict.fromkeys([each.member_id for each in EVERYBODY], 1)
    told: dict[str, str] = {}
    for roster in rosters:
        places = [replace(each, sequence=sequences[each.member_id]) for each in EVERYBODY]
        result = reconcile(
            GROUP,
            places,
            known,
            roster.present,
            roster.taken_at,
            complete=roster.complete,
            patience=PATIENCE,
            now=NOW,
        )
        for event, number in result.events:
            assert isinstance(event, GroupMemberObserved)
            assert number == sequences[event.member_id] + 1
            sequences[event.member_id] = number
            told[event.member_id] = event.state
        assert all(sequences[id_] == number for id_, number in result.sequences.items())
        known |= {change.after.id: change.after for change in result.changes}
    seen = {each.member_id: each.state.value for each in known.values() if each.present_at}
    assert told == seen


def test_causes() -> None:
    first = Roster(1, True, frozenset([HERE[0], HERE[1], ELSEWHERE, NOWHERE]))
    second = Roster(2, True, frozenset([HERE[0], ELSEWHERE, NOWHERE]))
    known, _ = apply([first, second])
    causes = {each.member_id: each.cause for each in known.values()}
    assert causes == {
        HERE[0]: None,
        HERE[1]: Cause.LEFT,
        HERE[2]: Cause.NEVER_CAME,
        ELSEWHERE: Cause.TWO_GROUPS,
        NOWHERE: Cause.NO_SEAT,
    }


def test_a_roster_older_than_the_seat_proves_nothing_of_it() -> None:
    late = placement(HERE[0], GROUP.id, SINCE + timedelta(days=9))
    result = reconcile(
        GROUP, [late], {}, set(), SINCE + timedelta(days=8), complete=True, patience=PATIENCE, now=NOW
    )
    assert [(c.after.cause, c.after.due_at) for c in result.changes] == [(None, None)]


def never_came() -> Observation:
    return apply([Roster(10, True, frozenset())])[0][f"{GROUP.id}/{HERE[0]}"]


def test_whoever_has_not_taken_an_invite_is_due_once_their_time_is_over() -> None:
    asked = SINCE + timedelta(days=9)
    start = invited(new_observation(GROUP, EVERYBODY[0], NOW), asked)
    known = {start.id: start}
    assert never_came().due_at == SINCE + PATIENCE, "without a sent invite, since the seat"
    before = once(Roster(8, True, frozenset()), known).changes[0].after
    assert before.due_at is None, "the roster is older than the invite"
    after = once(Roster(10, True, frozenset()), known).changes[0].after
    assert after.due_at == asked + PATIENCE


def test_nobody_is_invited_again_more_than_twice() -> None:
    each = never_came()
    causes = []
    for n in range(1, MAX_REINVITES + 1):
        each, event = lapsed(each, NOW + timedelta(days=n))
        causes.append((event.attempt, event.cause))
        assert each.due_at is None, "the next rests on a roster taken after this invite"
        each = link_was_reset(each, NOW)
    assert causes == [(1, "never_came"), (2, "link_reset")]
    assert each.due_at is None


@pytest.mark.parametrize("present", [[10], [10, 11]], ids=["joined", "left"])
def test_who_came_or_left_is_not_invited_again(present: list[int]) -> None:
    rosters = [Roster(10, True, frozenset(HERE)), *([Roster(11, True, frozenset())] * (len(present) - 1))]
    each = apply([Roster(9, True, frozenset()), *rosters])[0][f"{GROUP.id}/{HERE[0]}"]
    assert each.due_at is None
    assert link_was_reset(each, NOW).due_at is None


def test_who_lost_the_seat_is_not_invited_again() -> None:
    gone = seated(never_came(), GROUP, placement(HERE[0], OTHER.id).by_group)
    assert (gone.due_at, gone.cause) == (None, None)


@pytest.mark.parametrize(("here", "elsewhere", "wrong"), [(0, 4, False), (2, 3, True), (3, 3, False)])
def test_a_roster_of_another_group(here: int, elsewhere: int, wrong: bool) -> None:
    assert is_of_another_group(here, elsewhere) is wrong
