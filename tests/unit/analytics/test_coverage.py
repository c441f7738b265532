"""Coverage of every day: the same in whatever order events come, and what a plain recount gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.analytics.core.calendar import day_of
from services.analytics.core.coverage.domain import (
    MAX_POINTS,
    Deltas,
    Effort,
    flags,
    meets,
    missing,
    next_effort,
    profile,
    put,
    target_on,
)
from services.analytics.inclusion.words import TEXTS, in_words
from services.analytics.projections.coverage.fold import MAPPINGS, SENT, Batch, brings_invite
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupAdminsChanged,
    GroupCreated,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberObserved,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    ObservationSnapshot,
    PlacementSnapshot,
)
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMoved,
    MemberSnapshot,
    MemberUpdated,
)
from services.shared.contracts.notifications import NotificationSent
from services.shared.contracts.vocabulary import Gender, Language
from services.shared.ids import new_id
from tests.unit.analytics.streams import BEGIN, envelope

UNITS = ("BR-A", "BR-A-X", "BR-B")
GROUPS = {new_id(): "BR-A", new_id(): "BR-B"}
MEMBERS = [new_id() for _ in range(2)]
DAYS = 70
ADULT = st.sampled_from([None, True, False])
MESSAGES = [
    ("welcome", "welcome", None),
    ("welcome", "welcome", "no_invite"),
    ("welcome", "promised_invite", None),
    ("reminder", "invite", None),
    ("reminder", "t", None),
]
"""Purpose and text of messages that were sent, and what they went without."""
WAYS = (MESSAGES[0], *MESSAGES[2:4])


def on(day: int) -> Any:
    return BEGIN + timedelta(days=day)


@st.composite
def lives(draw: st.DrawFn, member: str) -> list[Envelope[Any]]:
    """The events of one member, in two topics and one notification, on days that only move on."""
    day = draw(st.integers(0, 5))
    inviter = draw(st.sampled_from([None, *MEMBERS]))
    gender = draw(st.sampled_from(Gender))
    about: dict[str, Any] = {"member_id": member, "unit": draw(st.sampled_from(UNITS))}
    coarse: dict[str, Any] = {"gender": gender, "language": "hi", "adult": draw(ADULT)}
    joined = MemberJoined(**about, **coarse, joined_at=on(day), inviter_id=inviter)
    events = [envelope(joined, 1, on(day))]
    sequence = 1
    for change in draw(
        st.lists(st.sampled_from(["move", "profile", "consent", "leave", "erase"]), max_size=4)
    ):
        day += draw(st.integers(0, 12))
        sequence += 1
        event: Event
        if change == "move":
            before, about["unit"] = about["unit"], draw(st.sampled_from(UNITS))
            event = MemberMoved(member_id=member, from_unit=before, unit=about["unit"])
        elif change == "profile":
            coarse |= {"gender": draw(st.sampled_from(Gender)), "adult": draw(ADULT)}
            event = MemberUpdated(**about, **coarse)
        elif change == "consent":
            consent = {"channel": "whatsapp", "state": draw(st.sampled_from(["given", "withdrawn"]))}
            event = MemberConsentChanged(**about, purpose="group", **consent)
        elif change == "leave":
            event = MemberLeft(**about)
        else:
            event = MemberErasureRequested(**about, erasure_id=new_id())
        events.append(envelope(event, sequence, on(day)))
        if change in ("leave", "erase"):
            break
    day, held = draw(st.integers(0, 5)), set[str]()
    for sequence in range(1, 1 + draw(st.integers(0, 5))):
        day += draw(st.integers(0, 9))
        group = draw(st.sampled_from(list(GROUPS)))
        seat: dict[str, Any] = {"member_id": member, "group_id": group, "unit": GROUPS[group]}
        seat["kind"] = "general"
        kind = draw(st.sampled_from(["seat", "seen"]))
        if kind == "seat" and group in held:
            held.remove(group)
            placed: Event = GroupMemberRemoved(**seat, ordinal=1, reason="moved")
        elif kind == "seat":
            held.add(group)
            placed = GroupMemberAssigned(**seat, ordinal=1, invite_ready=True)
        else:
            there = draw(st.sampled_from(["joined", "left"]))
            placed = GroupMemberObserved(**seat, state=there, observed_at=on(day))
        events.append(envelope(placed, sequence, on(day)))
    if draw(st.booleans()):
        purpose, template, without = draw(st.sampled_from(MESSAGES))
        sent: dict[str, Any] = {"notification_id": new_id(), "member_id": member, "unit": about["unit"]}
        sent |= {"purpose": purpose, "template": template, "without": without, "language": "hi"}
        done = NotificationSent(**sent, sender="recording", attempts=1)
        events.append(envelope(done, 2, on(draw(st.integers(0, 9)))))
    return events


@st.composite
def groups_lives(draw: st.DrawFn, group: str) -> list[Envelope[Any]]:
    day = draw(st.integers(0, 3))
    about: dict[str, Any] = {"group_id": group, "unit": GROUPS[group]}
    events: list[Event] = [GroupCreated(**about, kind="general", ordinal=1, capacity=draw(st.integers(1, 9)))]
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            events.append(GroupInviteChanged(**about, invite_ready=draw(st.booleans())))
        else:
            admins = draw(st.integers(1, 3))
            events.append(GroupAdminsChanged(**about, kind="general", ordinal=1, admins=admins))
    told = []
    for sequence, event in enumerate(events, 1):
        day += draw(st.integers(0, 9))
        told.append(envelope(event, sequence, on(day)))
    return told


HISTORIES = st.tuples(*map(lives, MEMBERS), *map(groups_lives, GROUPS))


def fold(batches: Sequence[Sequence[Envelope[Any]]]) -> Deltas:
    """As the projection does, with a dictionary for a database."""
    stored: dict[str, Any] = {}
    deltas: Deltas = Counter()
    for events in batches:
        batch = Batch(stored)
        for event in events:
            if isinstance(event.data, SENT):
                if brings_invite(event.data):
                    batch.invite(event)
            elif isinstance(event.data, MemberErasureRequested):
                batch.erase(event)
            else:
                batch.state(event, MAPPINGS[type(event.data)])
        stored |= {id_: record for id_, (_, record) in batch.changes.records.items()}
        deltas.update(batch.changes.deltas)
    return Counter({at: n for at, n in deltas.items() if n})


def kept_order(events: list[Envelope[Any]], drawn: list[int]) -> list[Envelope[Any]]:
    """The events in any order in which the erasure of a member is not before what the same topic told."""
    order = [event for _, event in sorted(zip(drawn, events, strict=True), key=lambda pair: pair[0])]
    late = [event for event in order if isinstance(event.data, MemberErasureRequested)]
    return [event for event in order if event not in late] + late


@given(HISTORIES, st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_and_repetition_gives_the_same_days(histories: Any, data: st.DataObject) -> None:
    facts = [event for history in histories for event in history]
    numbers = data.draw(st.lists(st.integers(0, 10**6), min_size=len(facts), max_size=len(facts)))
    came = kept_order(facts, numbers)
    came += [event for event in came if data.draw(st.booleans())]
    size = data.draw(st.integers(1, 9))
    batches = [came[at : at + size] for at in range(0, len(came), size)]
    assert fold(batches) == fold([facts])


@given(HISTORIES)
@settings(max_examples=60, deadline=None)
def test_every_day_is_as_recounted(histories: Any) -> None:
    facts = [event for history in histories for event in history]
    deltas = fold([facts])
    for day in range(0, DAYS, 4):
        today = day_of(on(day)).isoformat()
        got: Counter[tuple[str, str]] = Counter()
        for (unit, since, key), n in deltas.items():
            if since <= today:
                got[unit, key] += n
        assert +got == recount(facts, day), day
        assert not -got, "nothing is ever counted below zero"


def recount(facts: Sequence[Envelope[Any]], day: int) -> Counter[tuple[str, str]]:
    """The figures at the end of a day, by going through everything that has happened until then."""
    erased = {e.subject for e in facts if isinstance(e.data, MemberErasureRequested)}
    counts: Counter[tuple[str, str]] = Counter()

    def of(kind: Any, member: str) -> list[Envelope[Any]]:
        mine = (e for e in facts if isinstance(e.data, kind) and e.data.member_id == member)
        return sorted((e for e in mine if e.time <= on(day)), key=lambda e: e.sequence)

    for member in MEMBERS:
        if member in erased:
            continue
        seats: dict[str, bool] = {}
        seen: dict[str, bool] = {}
        for event in of(GroupMemberAssigned | GroupMemberRemoved | GroupMemberObserved, member):
            if isinstance(event.data, GroupMemberObserved):
                seen[event.data.group_id] = event.data.state == "joined"
            else:
                seats[event.data.group_id] = isinstance(event.data, GroupMemberAssigned)
        held = [group for group, there in seats.items() if there]
        for group in held:
            counts[GROUPS[group], "taken"] += 1
        joins = [
            e
            for e in facts
            if isinstance(e.data, MemberJoined) and e.data.inviter_id == member and e.subject != member
        ]
        # Who was invited counts where the inviter is known to live in the end, and as what.
        whole = [e for e in facts if e.subject == member and e.data.topic == "sangathan.members"]
        last = sorted(whole, key=lambda e: e.sequence)
        home = last[-1].data.unit
        said = [e.data.gender for e in last if hasattr(e.data, "gender")][-1]
        for _ in [e for e in joins if e.time <= on(day)]:
            counts[home, f"invited_by_{said}"] += 1
        story = of(MemberJoined | MemberMoved | MemberUpdated | MemberConsentChanged | MemberLeft, member)
        if not story:
            continue
        unit = story[-1].data.unit
        gender = [e.data.gender for e in story if hasattr(e.data, "gender")][-1]
        if isinstance(story[-1].data, MemberLeft):
            continue
        counts[unit, "members"] += 1
        counts[unit, "disclosed"] += gender is not Gender.UNDISCLOSED
        if gender is not Gender.FEMALE:
            continue
        counts[unit, "women"] += 1
        if is_minor(last, story[-1].sequence):
            continue
        sent = of(NotificationSent, member)
        invites = [e for e in sent if (e.data.purpose, e.data.template, e.data.without) in WAYS]
        in_group = any(seen.get(group) for group in held)
        active = any(on(day - 30) < e.time <= on(day) for e in joins)
        consents = [e.data.state for e in story if isinstance(e.data, MemberConsentChanged)]
        counts[unit, "registered"] += 1
        counts[unit, "assigned"] += bool(held)
        counts[unit, "invited"] += bool(held) and (bool(invites) or in_group)
        counts[unit, "joined"] += in_group
        counts[unit, "active"] += active
        counts[unit, "asked"] += consents[-1:] == ["given"]
    count_groups(facts, day, counts)
    return +counts


def is_minor(story: Sequence[Envelope[Any]], sequence: int) -> bool:
    """At this point of her story: she was told to be a minor last, or is so later."""
    told = [(e.sequence, e.data.adult) for e in story if getattr(e.data, "adult", None) is not None]
    until_now = [adult for n, adult in told if n <= sequence]
    return until_now[-1:] == [False] or any(not adult for n, adult in told if n > sequence)


def count_groups(facts: Sequence[Envelope[Any]], day: int, counts: Counter[tuple[str, str]]) -> None:
    for group, unit in GROUPS.items():
        told = [e for e in facts if getattr(e.data, "group_id", None) == group and e.subject == group]
        told = [e for e in told if e.time <= on(day)]
        if not told:
            continue
        links = [e.data.invite_ready for e in told if isinstance(e.data, GroupInviteChanged)]
        admins = [e.data.admins for e in told if isinstance(e.data, GroupAdminsChanged)]
        live = links[-1:] == [True]
        counts[unit, "groups"] += 1
        counts[unit, "seats"] += told[0].data.capacity
        counts[unit, "live"] += live
        counts[unit, "run"] += live and bool(admins) and admins[-1] >= 2


def test_an_event_that_comes_late_corrects_its_day_and_those_after_it() -> None:
    member = MEMBERS[0]
    about: dict[str, Any] = {"member_id": member, "gender": Gender.FEMALE, "language": "hi"}
    joined = envelope(MemberJoined(**about, unit="BR-A", joined_at=on(1)), 1, on(1))
    moved = envelope(MemberMoved(member_id=member, from_unit="BR-A", unit="BR-B"), 2, on(5))
    left = envelope(MemberLeft(member_id=member, unit="BR-B"), 3, on(9))
    in_time, late = fold([[joined], [moved], [left]]), fold([[joined], [left], [moved]])
    assert in_time == late
    day = [day_of(on(n)).isoformat() for n in (1, 5, 9)]
    assert [late["BR-A", at, "women"] for at in day] == [1, -1, 0]
    assert [late["BR-B", at, "women"] for at in day] == [0, 1, -1]


def test_a_snapshot_stands_for_what_the_log_has_lost() -> None:
    """And the event of the same sequence, if it does come, changes nothing but the day."""
    about: dict[str, Any] = {"member_id": MEMBERS[0], "gender": Gender.FEMALE, "language": "hi"}
    told = MemberSnapshot(**about, unit="BR-B", joined_at=on(1), status="active")
    snapshot = envelope(told, 4, on(20))
    assert fold([[snapshot]])["BR-B", day_of(on(1)).isoformat(), "women"] == 1
    moved = envelope(MemberMoved(member_id=MEMBERS[0], from_unit="BR-A", unit="BR-B"), 4, on(8))
    assert fold([[snapshot], [moved], [snapshot]]) == fold([[moved], [snapshot]])


@pytest.mark.parametrize("later", [False, True])
def test_snapshots_stand_for_seats_and_for_what_rosters_showed(later: bool) -> None:
    """In either order, each from its own day on; also where the seat is told of again after the roster."""
    about: dict[str, Any] = {"member_id": MEMBERS[0], "unit": "BR-A"}
    group: dict[str, Any] = {**about, "group_id": next(iter(GROUPS)), "kind": "general"}
    joined = MemberJoined(**about, gender=Gender.FEMALE, language="hi", joined_at=on(1))
    assigned = GroupMemberAssigned(**group, ordinal=1, invite_ready=True)
    seen = GroupMemberObserved(**group, state="joined", observed_at=on(4))
    events = [envelope(joined, 1, on(1)), envelope(assigned, 1, on(2)), envelope(seen, 2, on(6))]
    if later:
        redrawn = GroupMemberRedrawn(**group, member_unit="BR-A", ordinal=1)
        events.append(envelope(redrawn, 3, on(8)))
    placement = PlacementSnapshot(**group, ordinal=1, state="joined", since=on(2))
    observation = ObservationSnapshot(**group, state="joined", observed_at=on(4), attempts=1)
    never = ObservationSnapshot(**group | {"group_id": new_id()}, attempts=2)
    told = [
        envelope(placement, 3 if later else 2, on(20)),
        envelope(observation, 2, on(20)),
        envelope(never, 1, on(20)),
    ]
    wanted = fold([events])
    assert wanted["BR-A", day_of(on(4)).isoformat(), "joined"] == 1
    for order in (told, told[::-1]):
        assert fold([events[:1], *[[event] for event in order]]) == wanted
        assert fold([*[[event] for event in order], events]) == wanted


def test_an_erased_member_is_in_the_figures_of_no_day() -> None:
    about: dict[str, Any] = {"member_id": MEMBERS[0], "unit": "BR-A"}
    joined = MemberJoined(**about, gender=Gender.FEMALE, language="hi", joined_at=on(1))
    asked = MemberErasureRequested(**about, erasure_id=new_id())
    assert (
        fold([[envelope(joined, 1, on(1))], [envelope(asked, 2, on(9))], [envelope(joined, 1, on(1))]]) == {}
    )


def test_a_track_does_not_grow_without_end() -> None:
    track: list[Any] = []
    for n in range(1, 3 * MAX_POINTS):
        value = {"unit": f"BR-{n}", "gender": "female"} if n == 1 else {"unit": f"BR-{n}"}
        after = put(track, n, f"2026-01-{n % 28 + 1:02}", value, whole=False, merge=profile)
        assert after is not None
        track = after
    assert len(track) == MAX_POINTS
    assert profile(point[2] for point in track)["gender"] == "female", "what was said first still holds"
    assert put(track, 3, "2026-01-01", {"unit": "BR-X"}, whole=False, merge=profile) is None


def test_a_target_is_inherited_from_the_nearest_unit_above_and_has_its_days() -> None:
    state = {"_id": "BR", "u": [[1, "2026-01-01", {"target": 0.4}, "event"]]}
    district = {"_id": "BR-A", "u": [[1, "2026-01-01", {"target": None}, "event"]]}
    changed: list[Any] = [*state["u"], [2, "2026-03-01", {"target": 0.5}, "event"]]
    block = {"_id": "BR-A-X", "u": [[1, "2026-02-01", {"target": 0.6}, "event"]]}
    assert target_on([state, district], "2026-02-01") == 0.4
    assert target_on([{**state, "u": changed}, district], "2026-03-01") == 0.5
    assert target_on([state, district, block], "2026-01-15") == 0.4, "before it had its own"
    assert target_on([state, district, block], "2026-02-01") == 0.6
    assert target_on([district], "2026-02-01") is None


@pytest.mark.parametrize(
    ("own", "target", "effort"),
    [
        ({}, None, None),
        ({}, 0.4, Effort("first", 1)),
        ({"women": 2, "disclosed": 10, "registered": 2, "assigned": 2}, 0.5, Effort("register", 6)),
        ({"women": 5, "disclosed": 9, "registered": 5, "live": 1}, None, Effort("seat", 5)),
        ({"women": 5, "disclosed": 9, "registered": 5}, None, Effort("open_group", 5)),
        ({"women": 5, "disclosed": 9, "registered": 5, "assigned": 5}, None, Effort("invite", 5)),
        (
            {"women": 6, "disclosed": 6, "registered": 6, "assigned": 6, "invited": 3, "joined": 0},
            None,
            Effort("follow_up", 3),
        ),
        ({"women": 4, "registered": 4, "assigned": 4, "invited": 4, "joined": 4}, None, None),
    ],
)
def test_the_next_effort_is_the_one_that_brings_on_the_most_women(
    own: dict[str, int], target: float | None, effort: Effort | None
) -> None:
    assert next_effort(own, target) == effort


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.01, 0.99))
def test_as_many_women_as_are_missing_meet_the_target_and_one_less_do_not(
    women: int, others: int, target: float
) -> None:
    own = {"women": women, "disclosed": women + others}
    n = missing(own, target)
    with_them = {"women": women + n, "disclosed": women + others + n}
    assert meets(with_them, target) or not women + others
    if n > 1:
        with_less = {"women": women + n - 1, "disclosed": women + others + n - 1}
        assert not meets(with_less, target)


def test_flags_of_a_unit() -> None:
    values = {"women": 3, "disclosed": 6}
    assert flags(values, {"live": 1, "run": 1}, 0.5) == (
        "units_live",
        "units_run",
        "units_target",
        "units_met",
    )
    assert flags(values, {"live": 1}, 0.6) == ("units_live", "units_target")
    assert flags({"members": 9}, {}, 0.1) == ("units_target",), "who says nothing is not guessed"
    assert flags(values, {}, None) == ()


@pytest.mark.parametrize("language", TEXTS)
def test_every_reason_has_words(language: Language) -> None:
    assert TEXTS[language].keys() == TEXTS[Language.ENGLISH].keys()
    for reason in TEXTS[language]:
        one, many = in_words(reason, 1, 0.4, language), in_words(reason, 1234, 0.4, language)
        assert one != many
        assert "1234" in many
        assert "{" not in one + many


def test_a_point_that_is_known_adds_nothing() -> None:
    track = put([], 1, "2026-01-01", {"unit": "BR"}, whole=False, merge=profile)
    assert track is not None
    assert put(track, 1, "2026-01-01", {"unit": "BR"}, whole=False, merge=profile) is None
    both = put(track, 1, "2026-02-01", {"unit": "BR", "in": True}, whole=True, merge=profile)
    assert both == [[1, "2026-01-01", {"unit": "BR", "in": True}, "both"]]
    assert put(both, 1, "2026-02-01", {"unit": "BR", "in": True}, whole=True, merge=profile) is None


def test_the_sequence_decides_where_a_clock_went_back() -> None:
    about: dict[str, Any] = {"member_id": MEMBERS[0], "gender": Gender.FEMALE, "language": "hi"}
    joined = envelope(MemberJoined(**about, unit="BR-A", joined_at=on(1)), 1, on(1))
    moved = envelope(MemberMoved(member_id=MEMBERS[0], from_unit="BR-A", unit="BR-B"), 2, on(9))
    left = envelope(MemberLeft(member_id=MEMBERS[0], unit="BR-B"), 3, on(5))
    deltas = fold([[joined, moved, left]])
    later = [key for key in deltas if key[1] > day_of(on(1)).isoformat()]
    assert sum(deltas[key] for key in later if key[2] == "women") == -1
    assert {key[0] for key in later} == {"BR-A"}, "the move and the leaving fall on one day"


def test_a_member_is_active_for_thirty_days() -> None:
    inviter, guest = MEMBERS
    about: dict[str, Any] = {"gender": Gender.FEMALE, "language": "hi", "unit": "BR-A"}
    first = MemberJoined(**about, member_id=inviter, joined_at=on(0))
    second = MemberJoined(**about, member_id=guest, joined_at=on(3), inviter_id=inviter)
    deltas = fold([[envelope(first, 1, on(0)), envelope(second, 1, on(3))]])
    active = {day: n for (_, day, key), n in deltas.items() if key == "active"}
    assert active == {day_of(on(3)).isoformat(): 1, day_of(on(33)).isoformat(): -1}


def test_a_minor_is_in_no_stage_until_she_comes_of_age() -> None:
    """Also on the days before anybody told, as before an upgrade."""
    about: dict[str, Any] = {
        "member_id": MEMBERS[0],
        "gender": Gender.FEMALE,
        "language": "hi",
        "unit": "BR-A",
    }
    joined = envelope(MemberJoined(**about, joined_at=on(1)), 1, on(1))
    told = envelope(MemberUpdated(**about, adult=False), 2, on(9))
    moved = envelope(MemberMoved(member_id=MEMBERS[0], from_unit="BR-A", unit="BR-A"), 3, on(11))
    grown = envelope(MemberUpdated(**about, adult=True), 4, on(20))
    days = {on: day_of(BEGIN + timedelta(days=on)).isoformat() for on in (1, 20)}
    for came in ([joined, told, moved, grown], [grown, moved, told, joined]):
        deltas = fold([[event] for event in came])
        assert {at: n for at, n in deltas.items() if at[2] in ("women", "registered")} == {
            ("BR-A", days[1], "women"): 1,
            ("BR-A", days[20], "registered"): 1,
        }
    assert ("BR-A", days[1], "registered") in fold([[joined]]), "nothing was told: who is unknown counts"


def test_a_link_withdrawn_by_a_clock_that_went_back_was_never_live() -> None:
    group, unit = next(iter(GROUPS.items()))
    about: dict[str, Any] = {"group_id": group, "unit": unit}
    created = envelope(GroupCreated(**about, kind="general", ordinal=1, capacity=5), 1, on(1))
    given = envelope(GroupInviteChanged(**about, invite_ready=True), 2, on(9))
    taken = envelope(GroupInviteChanged(**about, invite_ready=False), 3, on(5))
    assert not any(n for (_, _, key), n in fold([[created, given, taken]]).items() if key == "live")
