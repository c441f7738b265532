"""The rules of analytics, on facts in memory."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.core.counting import EVERYWHERE, Changes, Flow, below, rollup, women_share
from services.analytics.core.facts import Fact, learn, learn_whole, word
from services.analytics.projections.groups import GROUPS
from services.analytics.projections.members import MEMBERS
from services.analytics.projections.placements import PLACEMENTS
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupArchived,
    GroupCreated,
    GroupMemberAssigned,
    GroupMemberRemoved,
    PlacementSnapshot,
)
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberUpdated
from services.shared.contracts.vocabulary import Gender
from tests.fixtures.ids import id_of
from tests.unit.analytics.streams import BEGIN, envelope

ID = id_of("m")


def joined(unit: str = "BR-A", gender: Gender = Gender.FEMALE, **more: Any) -> MemberJoined:
    return MemberJoined(member_id=ID, unit=unit, gender=gender, language="hi", joined_at=BEGIN, **more)


def after(fact: Fact | None, sequence: int, event: Event) -> Fact | None:
    """The fact after an event about member `m`; None when its sequence is known."""
    return learn(fact or Fact(ID), sequence, MEMBERS.mappings[type(event)].states(event))


def flows_of(event: Envelope[Any]) -> list[Flow]:
    return list(MEMBERS.mappings[type(event.data)].flows(event))


def counted(fact: Fact | None) -> Counter[tuple[str, str]]:
    changes = Changes()
    if fact is not None:
        changes.note(MEMBERS, None, fact)
    return +changes.totals


def test_a_unit_counts_towards_all_above_it_and_everything() -> None:
    assert rollup("BR-A-X") == ["*", "BR", "BR-A", "BR-A-X"]


def test_a_member_counts_in_every_unit_above() -> None:
    fact = after(None, 1, joined("BR-A-X", platforms=("whatsapp", "x", "x")))
    totals = counted(fact)
    for unit in ("*", "BR", "BR-A", "BR-A-X"):
        assert {key: n for (u, key), n in totals.items() if u == unit} == {
            "members.total": 1,
            "members.by_gender.female": 1,
            "members.by_language.hi": 1,
            "members.by_platform.whatsapp": 1,
            "members.by_platform.x": 1,
        }


def test_a_move_takes_away_where_it_adds() -> None:
    old = after(None, 1, joined("BR-A"))
    assert old is not None
    new = after(old, 2, MemberMoved(member_id=ID, from_unit="BR-A", unit="BR-B"))
    assert new is not None
    changes = Changes()
    changes.note(MEMBERS, old, new)
    moved = {unit: n for (unit, key), n in changes.totals.items() if key == "members.total" and n}
    assert moved == {"BR-A": -1, "BR-B": 1}


def test_a_repeated_or_stale_sequence_says_nothing_new() -> None:
    fact = after(None, 1, joined())
    assert after(fact, 1, MemberLeft(member_id=ID, unit="BR-A")) is None


def test_a_late_older_statement_does_not_overwrite_a_newer_one() -> None:
    update = MemberUpdated(member_id=ID, unit="BR-B", gender=Gender.OTHER, language="ur")
    fact = after(None, 2, update)
    assert counted(fact) == {}, "not counted before member.joined is known"
    fact = after(fact, 1, joined("BR-A", Gender.FEMALE))
    totals = counted(fact)
    assert totals["BR-B", "members.by_gender.other"] == 1
    assert totals["BR-A", "members.total"] == 0
    assert fact is not None
    assert (fact.upto, fact.beyond) == (2, ())


def test_a_member_whose_leaving_came_first_never_counts() -> None:
    fact = after(None, 5, MemberLeft(member_id=ID, unit="BR-A"))
    fact = after(fact, 1, joined())
    assert counted(fact) == {}
    assert fact is not None
    assert (fact.upto, fact.beyond) == (1, (5,))


@given(st.permutations(range(1, 9)), st.integers(0, 8))
def test_sequences_known_are_exact_and_compact(order: list[int], known: int) -> None:
    fact = Fact(ID)
    for sequence in order[:known]:
        learnt = learn(fact, sequence, {})
        assert learnt is not None
        fact = learnt
    for sequence in range(1, 9):
        assert (learn(fact, sequence, {}) is None) == (sequence in order[:known])
    if known == 8:
        assert fact.beyond == ()


def test_joined_counts_on_the_day_of_joining_in_india() -> None:
    late_evening_utc = datetime(2026, 11, 3, 19, 0, tzinfo=UTC)
    event = envelope(joined().model_copy(update={"joined_at": late_evening_utc}), 1, BEGIN)
    changes = Changes()
    changes.happened(event, flows_of(event))
    assert {day.isoformat() for _, day, _ in changes.flows} == {"2026-11-04"}


def test_a_move_within_a_unit_is_neither_in_nor_out_of_it() -> None:
    event = envelope(MemberMoved(member_id=ID, from_unit="BR-A-X", unit="BR-A-Y"), 2)
    flows = {metric: set(units) for metric, _, units in flows_of(event)}
    assert flows == {"members.moved_in": {"BR-A-Y"}, "members.moved_out": {"BR-A-X"}}


def test_newest_is_the_time_of_the_newest_event_whatever_the_order() -> None:
    changes = Changes()
    for hours in (2, 5, 1):
        changes.happened(envelope(joined(), 1, BEGIN + timedelta(hours=hours)), ())
    assert changes.newest == BEGIN + timedelta(hours=5)


@pytest.mark.parametrize(
    ("by_gender", "share"),
    [
        ({}, None),
        ({"undisclosed": 4}, None),
        ({"female": 1, "undisclosed": 9}, 1.0),
        ({"female": 1, "male": 2}, 0.3333),
        ({"female": 1, "male": 2, "other": 1}, 0.25),
        ({"male": 3, "female": 0}, 0.0),
    ],
)
def test_womens_share_is_among_those_who_disclosed(by_gender: dict[str, int], share: float | None) -> None:
    assert women_share({f"members.by_gender.{g}": n for g, n in by_gender.items()}) == share


def test_below_leaves_zeros_out() -> None:
    assert below({"a.x": 2, "a.y": 0, "ab.z": 1, "a": 5}, "a") == {"x": 2}


@pytest.mark.parametrize("text", ["", "a.b", "$set", "HI", "x" * 33, "हिन्दी", "a b"])
def test_a_word_that_cannot_name_a_counter_is_other(text: str) -> None:
    assert word(text) == "other"


def test_words_in_use_are_kept() -> None:
    assert [word(w) for w in ("hi", "bho", "whatsapp", "share_chat2")] == [
        "hi",
        "bho",
        "whatsapp",
        "share_chat2",
    ]


def test_everywhere_is_no_unit_code() -> None:
    assert EVERYWHERE not in rollup("BR")[1:]


def seat(rule: str, group: str, unit: str) -> dict[str, Any]:
    return {"member_id": ID, "group_id": id_of(group), "unit": unit, "kind": rule, "ordinal": 1, "rule": rule}


def test_each_seat_of_a_member_counts_in_its_unit_in_any_order() -> None:
    history: list[Event] = [
        GroupMemberAssigned(**seat("general", "g1", "BR-A-1-X"), invite_ready=True),
        GroupMemberAssigned(**seat("women", "w1", "BR-A-1"), invite_ready=True),
        GroupMemberRemoved(**seat("general", "g1", "BR-A-1-X"), reason="moved"),
        GroupMemberAssigned(**seat("general", "g2", "BR-B"), invite_ready=True),
        GroupMemberRemoved(**seat("women", "w1", "BR-A-1"), reason="moved"),
        GroupMemberAssigned(**seat("women", "w2", "BR-A-2"), invite_ready=True),
    ]
    last = history[-1]
    assert isinstance(last, GroupMemberAssigned)
    held = {"rule": "women", "kind": "women", "unit": "BR-A-2", "state": "assigned", "since": BEGIN}
    snapshot = PlacementSnapshot(
        member_id=ID,
        unit="BR-B",
        state="assigned",
        group_id=id_of("g2"),
        kind="general",
        since=BEGIN,
        seats=[held | {"group_id": last.group_id}],
    )
    for order in permutations(enumerate(history, 1)):
        fact: Fact | None = None
        for sequence, event in order:
            fact = learn(fact or Fact(ID), sequence, PLACEMENTS.mappings[type(event)].states(event))
        assert fact is not None
        assert sorted(PLACEMENTS.counted(fact)) == [
            ("BR-A-2", "groups.taken", 1),
            ("BR-B", "groups.taken", 1),
        ]
    whole = learn_whole(Fact(ID), 6, PLACEMENTS.mappings[PlacementSnapshot].states(snapshot))
    assert whole is not None
    assert sorted(PLACEMENTS.counted(whole)) == [("BR-A-2", "groups.taken", 1), ("BR-B", "groups.taken", 1)]


def test_an_archived_group_counts_no_more() -> None:
    shape = {"group_id": ID, "unit": "BR-A", "kind": "general", "ordinal": 1}
    events: list[Event] = [GroupCreated(**shape, capacity=5), GroupArchived(**shape)]
    counts = []
    fact: Fact | None = None
    for sequence, event in enumerate(events, 1):
        fact = learn(fact or Fact(ID), sequence, GROUPS.mappings[type(event)].states(event))
        assert fact is not None
        counts.append({key for _, key, _ in GROUPS.counted(fact)})
    assert counts == [{"groups.total", "groups.seats"}, set()]
