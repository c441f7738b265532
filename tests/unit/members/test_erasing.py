"""The states of an erasure, and when a year is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.members.core import erasing
from services.members.core.erasing import SLOWEST, Erasure, ErasureState, Rule
from services.shared.contracts.members import MemberErased, MemberErasureRequested
from services.shared.ids import new_id

NOW = datetime(2026, 11, 27, 8, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
GROUP = new_id()


def asked(rule: Rule = Rule.AT_ONCE) -> Erasure:
    erasure = Erasure(
        id=new_id(),
        member_id=new_id(),
        unit="BR-SARAN",
        status="active",
        rule=rule,
        requested_by="staff",
        requested_at=NOW,
        sequence=4,
    )
    state, [(event, sequence)] = erasing.request(erasure, HOUR)
    assert isinstance(event, MemberErasureRequested)
    assert (event.attempt, sequence, state.sequence, state.next_at) == (1, 5, 5, NOW + HOUR)
    return state


def answered(erasure: Erasure, *services: str, groups: tuple[str, ...] = ()) -> Erasure:
    for service in services:
        named = groups if service == "groups" else ()
        step = erasing.acknowledge(erasure, service, {"things": 1}, named, NOW + HOUR)
        erasure = step.state
    return erasure


def test_the_last_of_three_ends_it_at_once() -> None:
    two = answered(asked(), "groups", "analytics")
    assert two.state is ErasureState.REQUESTED
    state, [(event, sequence)] = erasing.acknowledge(two, "notifications", {}, (), NOW + HOUR)
    assert isinstance(event, MemberErased)
    assert (state.state, sequence, state.erased_at) == (ErasureState.ERASED, 6, NOW + HOUR)
    assert state.next_at is None
    assert not state.needs_seal
    assert erasing.end(state, NOW + 2 * HOUR) == (state, ()), "it ends once"


def test_one_who_answers_three_times_is_one() -> None:
    erasure = answered(asked(), "groups", "groups", "groups")
    assert erasure.state is ErasureState.REQUESTED
    again = erasing.acknowledge(erasure, "groups", {"things": 9}, (), NOW + 2 * HOUR)
    assert again == (erasure, ())


def test_by_the_rule_it_is_sealed_until_the_anniversary() -> None:
    sealed = answered(asked(Rule.DPDP_8_3), *erasing.SERVICES)
    assert sealed.state is ErasureState.SEALED
    assert sealed.needs_seal
    assert sealed.sealed_until == sealed.next_at == NOW.replace(year=2027)
    ended = erasing.end(sealed, NOW.replace(year=2027))
    assert [type(event) for event, _ in ended.events] == [MemberErased]
    assert not ended.state.needs_seal


@pytest.mark.parametrize(
    ("asked_on", "ends_on"),
    [
        ((2027, 2, 28), (2028, 2, 28)),
        ((2027, 3, 1), (2028, 3, 1)),
        ((2028, 2, 29), (2029, 3, 1)),
        ((2028, 2, 28), (2029, 2, 28)),
        ((2027, 12, 31), (2028, 12, 31)),
    ],
)
def test_a_year_is_a_whole_year(asked_on: tuple[int, int, int], ends_on: tuple[int, int, int]) -> None:
    assert erasing.anniversary(datetime(*asked_on, tzinfo=UTC)) == datetime(*ends_on, tzinfo=UTC)
    assert datetime(*ends_on, tzinfo=UTC) - datetime(*asked_on, tzinfo=UTC) >= timedelta(days=365)


def test_it_is_asked_again_until_it_is_answered() -> None:
    erasure, [(event, sequence)] = erasing.ask_again(asked(), HOUR, NOW + HOUR)
    assert isinstance(event, MemberErasureRequested)
    assert (event.attempt, sequence, erasure.next_at) == (2, 6, NOW + 3 * HOUR)
    ended = answered(erasure, *erasing.SERVICES)
    assert ended.state is ErasureState.ERASED
    assert erasing.ask_again(ended, HOUR, NOW).events == ()


@pytest.mark.parametrize("again", [timedelta(milliseconds=10), HOUR, timedelta(days=30)])
def test_a_service_that_is_away_for_months_is_asked_ever_more_slowly_and_for_ever(again: timedelta) -> None:
    erasure, now = asked(), NOW
    pauses = []
    for _ in range(300):
        before = erasure.sequence
        erasure, [(event, sequence)] = erasing.ask_again(erasure, again, now)
        assert isinstance(event, MemberErasureRequested)
        assert (event.attempt, sequence) == (erasure.attempt, before + 1)
        assert erasure.next_at is not None
        pauses.append(erasure.next_at - now)
        now = erasure.next_at
    assert pauses == sorted(pauses)
    assert pauses[0] == (2 * again if 2 * again <= SLOWEST else again)
    assert pauses[-1] == max(SLOWEST, again)
    far = erasing.ask_again(replace(erasure, attempt=900_000), again, now).state
    assert far.next_at == now + max(SLOWEST, again)


def test_the_number_is_needed_until_the_last_group_is_left() -> None:
    assert asked().needs_number, "groups has not said yet where the member had a seat"
    assert not answered(asked(), "groups").needs_number
    erasure = answered(asked(), *erasing.SERVICES, groups=(GROUP, new_id()))
    assert erasure.needs_number
    for removal in erasure.removals:
        assert erasure.needs_number
        erasure = erasing.removed(erasure, removal.group_id, "admin", NOW)
    assert not erasure.needs_number
    assert erasing.removed(erasure, erasure.removals[0].group_id, "other", NOW + HOUR) == erasure
