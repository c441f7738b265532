"""A recipient is the same in whatever order its events come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from services.notifications.core.recipients import Recipient, learn
from services.shared.contracts.base import Event
from services.shared.contracts.groups import GroupMemberAssigned, GroupMemberRemoved, PlacementSnapshot
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberRolesChanged,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.contracts.vocabulary import Gender
from tests.fixtures.ids import id_of

NOW = datetime(2025, 6, 1, tzinfo=UTC)
ID, TWO = id_of("m"), id_of("two")


def joined(unit: str = "BR-A") -> MemberJoined:
    return MemberJoined(
        adult=False,
        member_id=ID,
        unit=unit,
        gender=Gender.FEMALE,
        language="hi",
        joined_at=NOW,
        channels=("sms",),
    )


def updated(language: str, contact_changed: bool = False, adult: bool | None = None) -> MemberUpdated:
    return MemberUpdated(
        adult=adult,
        member_id=ID,
        unit="BR-A",
        gender=Gender.FEMALE,
        language=language,
        contact_changed=contact_changed,
    )


def assigned(group: str) -> GroupMemberAssigned:
    return GroupMemberAssigned(
        member_id=ID, group_id=id_of(group), unit="BR-A", kind="general", ordinal=1, invite_ready=False
    )


def removed(group: str) -> GroupMemberRemoved:
    return GroupMemberRemoved(
        member_id=ID, group_id=id_of(group), unit="BR-A", kind="general", ordinal=1, reason="moved"
    )


def consented(*channels: str) -> MemberConsentChanged:
    change = {"purpose": "welcome", "channel": "sms", "state": "given" if channels else "withdrawn"}
    return MemberConsentChanged(member_id=ID, unit="BR-B", **change, channels=channels)


HISTORY: list[tuple[Event, int]] = [
    (joined(), 1),
    (updated("en", adult=True), 2),
    (updated("ur", contact_changed=True), 3),
    (MemberMoved(member_id=ID, from_unit="BR-A", unit="BR-B"), 4),
    (consented(), 5),
    (consented("whatsapp", "email"), 6),
    (MemberRolesChanged(member_id=ID, unit="BR-B"), 7),
    (MemberLeft(member_id=ID, unit="BR-B"), 8),
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
        unit_sequence=7,
        language="ur",
        language_sequence=3,
        adult=True,
        adult_sequence=2,
        channels=("whatsapp", "email"),
        consent_sequence=6,
        group_id=TWO,
        placement_sequence=3,
    )


def test_a_withdrawal_heard_before_the_joining_stands() -> None:
    known = learn(learn(Recipient(ID), consented(), 2), joined(), 1)
    assert (known.joined, known.channels) == (True, ())
    assert learn(known, snapshot("active", "BR-A", "hi"), 1).channels == ()
    assert learn(known, snapshot("active", "BR-A", "hi"), 3).channels == ("sms",)


def test_a_removal_reported_after_the_next_assignment_leaves_that_in_place():
    known = learn(learn(Recipient(ID), assigned("new"), 2), removed("old"), 3)
    assert (known.group_id, known.placement_sequence) == (id_of("new"), 3)


def test_a_seat_in_another_group_than_the_general_one_makes_and_moves_no_welcome() -> None:
    known = learn(learn(Recipient(ID), joined(), 1), assigned("general"), 1)
    women = assigned("women").model_copy(update={"rule": "women", "kind": "women", "invite_ready": True})
    gone = removed("general").model_copy(update={"rule": "women", "kind": "women"})
    assert learn(known, women, 2) == learn(known, gone, 3) == known
    assert learn(Recipient(ID), women, 1) == Recipient(ID)


def test_what_is_of_no_interest_changes_nothing():
    known = learn(Recipient(ID), joined(), 1)
    assert learn(known, joined(unit="BR-Z"), 1) == known


def snapshot(
    status: Literal["active", "left"],
    unit: str,
    language: str,
    channels: tuple[str, ...] = ("sms",),
    adult: bool | None = None,
) -> MemberSnapshot:
    return MemberSnapshot(
        adult=adult,
        member_id=ID,
        unit=unit,
        gender=Gender.FEMALE,
        language=language,
        joined_at=NOW,
        channels=channels,
        status=status,
    )


def placed(group: str | None) -> PlacementSnapshot:
    return PlacementSnapshot(
        member_id=ID,
        unit="BR-A",
        state="assigned",
        group_id=id_of(group) if group else None,
        kind="general",
        since=NOW,
    )


SNAPSHOTS: list[tuple[Event, int]] = [
    (snapshot("active", "BR-A", "hi"), 1),
    (snapshot("active", "BR-A", "ur"), 3),
    (snapshot("active", "BR-B", "ur"), 4),
    (snapshot("left", "BR-B", "ur", ("whatsapp", "email"), adult=True), 8),
    (placed("one"), 1),
    (placed(None), 2),
    (placed("two"), 3),
]


@given(st.data())
def test_snapshots_anywhere_among_the_events_change_nothing(data):
    again = data.draw(st.lists(st.sampled_from(SNAPSHOTS), max_size=8))
    alone = told(HISTORY)
    amid = told(data.draw(st.permutations([*HISTORY, *again])))
    assert replace(amid, found=False) == without_versions(replace(alone, found=False), amid)


@given(st.data())
def test_after_a_loss_the_last_snapshots_say_all_but_that_they_joined(data):
    last = [SNAPSHOTS[3], SNAPSHOTS[6]]
    known = told(data.draw(st.permutations([*last, *last])))
    alone = told(HISTORY)
    assert replace(known, found=False) == without_versions(replace(alone, joined=False), known)
    assert known.introduced


def test_a_merge_and_its_undoing_end_the_same_in_any_order() -> None:
    state = {"member_id": ID, "unit": "BR-B", "gender": Gender.FEMALE, "language": "en", "joined_at": NOW}
    merged = [
        (MemberMerged(**state, into=TWO), 6),
        (snapshot("left", "BR-B", "en").model_copy(update={"merged_into": TWO}), 6),
    ]
    parted = (MemberUnmerged(**state, into=TWO, channels=("email",)), 7)
    history: list[tuple[Event, int]] = [(joined(), 1), (consented("whatsapp"), 5), *merged]
    for order in permutations(history):
        known = told(order)
        assert (known.merged, known.active, known.unit) == (True, True, "BR-B")
    for order in permutations([*history, parted]):
        known = told(order)
        assert (known.merged, known.active, known.channels, known.welcomed) == (False, True, ("email",), True)


def told(events: Iterable[tuple[Event, int]]) -> Recipient:
    known = Recipient(ID)
    for event, sequence in events:
        known = learn(known, event, sequence)
    return known


def without_versions(recipient: Recipient, other: Recipient) -> Recipient:
    """`recipient` with the sequences of `other`, which learnt the same values from a later snapshot."""
    return replace(
        recipient,
        unit_sequence=other.unit_sequence,
        language_sequence=other.language_sequence,
        adult_sequence=other.adult_sequence,
        consent_sequence=other.consent_sequence,
        merged_sequence=other.merged_sequence,
    )
