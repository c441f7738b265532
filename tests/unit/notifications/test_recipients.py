"""A recipient is the same in whatever order its events come."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.notifications.recipients import Recipient, learn
from services.shared.contracts.base import Event
from services.shared.contracts.groups import GroupMemberAssigned, GroupMemberRemoved
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberUpdated
from services.shared.contracts.vocabulary import Gender

NOW = datetime(2025, 6, 1, tzinfo=UTC)
ID = "m"


def joined(unit: str = "BR-A") -> MemberJoined:
    return MemberJoined(
        member_id=ID,
        unit=unit,
        gender=Gender.FEMALE,
        language="hi",
        joined_at=NOW,
        channels=("sms",),
    )


def updated(language: str, contact_changed: bool = False) -> MemberUpdated:
    return MemberUpdated(
        member_id=ID,
        unit="BR-A",
        gender=Gender.FEMALE,
        language=language,
        contact_changed=contact_changed,
    )


def assigned(group: str) -> GroupMemberAssigned:
    return GroupMemberAssigned(
        member_id=ID, group_id=group, unit="BR-A", kind="general", ordinal=1, invite_ready=False
    )


def removed(group: str) -> GroupMemberRemoved:
    return GroupMemberRemoved(
        member_id=ID, group_id=group, unit="BR-A", kind="general", ordinal=1, reason="moved"
    )


HISTORY: list[tuple[Event, int]] = [
    (joined(), 1),
    (updated("en"), 2),
    (updated("ur", contact_changed=True), 3),
    (MemberMoved(member_id=ID, from_unit="BR-A", unit="BR-B"), 4),
    (MemberLeft(member_id=ID, unit="BR-B"), 5),
    (assigned("one"), 1),
    (removed("one"), 2),
    (assigned("two"), 3),
]


@given(st.permutations(HISTORY), st.lists(st.sampled_from(HISTORY), max_size=5))
def test_any_order_and_any_repetition_end_the_same(order, again):
    known = Recipient(ID)
    for event, sequence in [*order, *again]:
        known = learn(known, event, sequence)
    assert known == Recipient(
        ID,
        joined=True,
        active=False,
        unit="BR-B",
        unit_sequence=4,
        language="ur",
        language_sequence=3,
        contact_sequence=3,
        channels=("sms",),
        group_id="two",
        placement_sequence=3,
    )


def test_a_removal_reported_after_the_next_assignment_leaves_that_in_place():
    known = learn(learn(Recipient(ID), assigned("new"), 2), removed("old"), 3)
    assert (known.group_id, known.placement_sequence) == ("new", 3)


def test_what_is_of_no_interest_changes_nothing():
    known = learn(Recipient(ID), joined(), 1)
    assert learn(known, joined(unit="BR-Z"), 1) == known
