"""Streams of events as they may really come, and a naive recount of what they amount to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    PlacementSnapshot,
)
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
from services.shared.contracts.notifications import (
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSnapshot,
    NotificationSuppressed,
)
from services.shared.contracts.vocabulary import Gender, in_subtree
from services.shared.ids import new_id
from tests.fixtures.ids import id_of

BEGIN = datetime(2026, 11, 1, 12, tzinfo=UTC)
PLATFORMS = ("whatsapp", "facebook", "youtube")
NOTIFICATIONS: dict[type[Event], dict[str, Any]] = {
    NotificationQueued: {},
    NotificationSuppressed: {"reason": "no_consent"},
    NotificationSent: {"sender": "recording", "attempts": 1},
    NotificationFailed: {"sender": "recording", "attempts": 3, "error_class": "refused"},
}


def envelope(event: Event, sequence: int, time: datetime = BEGIN) -> Envelope[Any]:
    return Envelope(id=new_id(), sequence=sequence, time=time, correlation_id="c", traceparent="", data=event)


def units(root: str) -> list[str]:
    return [root, f"{root}-A", f"{root}-B", f"{root}-A-X", f"{root}-A-X-1", f"{root}-A-X-2", f"{root}-B-Y"]


@st.composite
def member_history(draw: st.DrawFn, codes: Sequence[str]) -> list[Event]:
    """joined, then updates, moves and what only states the unit, then perhaps left."""
    member, unit, gender, language = (
        new_id(),
        *draw(
            st.tuples(st.sampled_from(codes), st.sampled_from(Gender), st.sampled_from(["hi", "bho", "ur"]))
        ),
    )
    platforms = tuple(draw(st.sets(st.sampled_from(PLATFORMS))))
    coarse: dict[str, Any] = {"gender": gender, "language": language, "platforms": platforms}
    coarse["own_number"] = draw(st.booleans())
    joined_at = BEGIN - timedelta(hours=draw(st.integers(0, 100)))
    history: list[Event] = [MemberJoined(member_id=member, unit=unit, joined_at=joined_at, **coarse)]
    for change in draw(st.lists(st.sampled_from(["move", "update", "consent", "roles"]), max_size=5)):
        if change == "consent":
            consent = {"purpose": "welcome", "channel": "sms", "state": "given"}
            history.append(MemberConsentChanged(member_id=member, unit=unit, **consent))
        elif change == "roles":
            history.append(MemberRolesChanged(member_id=member, unit=unit))
        elif change == "move":
            before, unit = unit, draw(st.sampled_from(codes))
            history.append(MemberMoved(member_id=member, from_unit=before, unit=unit))
        else:
            coarse |= {"gender": draw(st.sampled_from(Gender)), "own_number": draw(st.booleans())}
            history.append(MemberUpdated(member_id=member, unit=unit, **coarse))
    if draw(st.booleans()):
        history.append(MemberLeft(member_id=member, unit=unit))
    return history


@st.composite
def placement_history(draw: st.DrawFn, codes: Sequence[str]) -> list[Event]:
    member = new_id()
    history: list[Event] = []
    for unit in draw(st.lists(st.sampled_from(codes), max_size=3)):
        if draw(st.booleans()):
            history.append(GroupMemberWaiting(member_id=member, unit=unit, reason="waiting_unit"))
        place = {"member_id": member, "group_id": id_of("g"), "unit": unit, "kind": "general", "ordinal": 1}
        history.append(GroupMemberAssigned(**place, invite_ready=True))
        history.append(GroupMemberRemoved(**place, reason="moved"))
    return history[: draw(st.integers(0, len(history)))]


@st.composite
def group_history(draw: st.DrawFn, codes: Sequence[str]) -> list[Event]:
    group = {"group_id": new_id(), "unit": draw(st.sampled_from(codes))}
    size = draw(st.integers(1, 9))
    history: list[Event] = [GroupCreated(**group, kind="general", ordinal=1, capacity=size)]
    for kind in draw(st.lists(st.sampled_from([GroupUpdated, GroupFilled, GroupInviteChanged]), max_size=3)):
        if kind is GroupInviteChanged:
            history.append(GroupInviteChanged(**group, invite_ready=draw(st.booleans())))
            continue
        size = draw(st.integers(1, 9)) if kind is GroupUpdated else size
        history.append(kind(**group, kind="general", ordinal=1, capacity=size))
    return history


@st.composite
def notification_history(draw: st.DrawFn, codes: Sequence[str]) -> list[Event]:
    common = {"notification_id": new_id(), "member_id": id_of("m"), "unit": draw(st.sampled_from(codes))}
    common |= {"purpose": draw(st.sampled_from(["welcome", "reminder"])), "template": "t", "language": "hi"}
    kinds = draw(st.lists(st.sampled_from(list(NOTIFICATIONS)), min_size=1, max_size=3))
    return [kind(**common, **NOTIFICATIONS[kind]) for kind in kinds]


@dataclass(frozen=True)
class Stream:
    """`facts` is what happened, each event once and in order; `batches` is how it came."""

    facts: list[Envelope[Any]]
    batches: list[list[Envelope[Any]]]


@st.composite
def streams(draw: st.DrawFn, codes: Sequence[str]) -> Stream:
    """Histories of all kinds, shuffled without regard to anything, with events repeated under the same id
    (redelivery) and under another (what an inbox that has forgotten lets through), cut into batches."""
    histories = draw(
        st.lists(
            st.one_of(
                member_history(codes),
                placement_history(codes),
                group_history(codes),
                notification_history(codes),
            ),
            max_size=8,
        )
    )
    facts = [
        envelope(event, sequence, BEGIN + timedelta(hours=draw(st.integers(0, 60))))
        for history in histories
        for sequence, event in enumerate(history, 1)
    ]
    repeated = [event for event in facts if draw(st.booleans())]
    forgotten = [replace(event, id=new_id()) for event in facts if draw(st.integers(0, 4)) == 0]
    came = draw(st.permutations([*facts, *repeated, *forgotten]))
    size = draw(st.integers(1, 12))
    return Stream(facts, [list(came[i : i + size]) for i in range(0, len(came), size)])


def recount(facts: Sequence[Envelope[Any]], unit: str) -> dict[str, Any]:
    """The overview that `unit` must have, counted the plain way: the last event of each subject decides."""
    histories: dict[tuple[str, str], list[Event]] = {}
    for event in sorted(facts, key=lambda e: e.sequence):
        histories.setdefault((event.data.topic, event.subject), []).append(event.data)
    genders, languages, platforms = Counter[str](), Counter[str](), Counter[str]()
    without_number = 0
    groups = {"total": 0, "seats": 0, "taken": 0}
    states = Counter[str]()
    for history in histories.values():
        last = history[-1]
        if not in_subtree(last.unit, unit):  # type: ignore[attr-defined]
            continue
        match last:
            case MemberLeft() | GroupMemberWaiting() | GroupMemberRemoved():
                pass
            case (
                MemberJoined()
                | MemberUpdated()
                | MemberMoved()
                | MemberConsentChanged()
                | MemberRolesChanged()
            ):
                who = [e for e in history if isinstance(e, MemberJoined | MemberUpdated)][-1]
                genders[who.gender.value] += 1
                languages[who.language] += 1
                platforms.update(who.platforms)
                without_number += not who.own_number
            case GroupMemberAssigned():
                groups["taken"] += 1
            case GroupCreated() | GroupUpdated() | GroupFilled() | GroupInviteChanged():
                sizes = [e.capacity for e in history if not isinstance(e, GroupInviteChanged)]  # type: ignore[attr-defined]
                groups["total"] += 1
                groups["seats"] += sizes[-1]
            case _:
                states[last.event_type.removeprefix("notification.")] += 1
    disclosed = genders.total() - genders["undisclosed"]
    return {
        "members": {
            "total": genders.total(),
            "without_number": without_number,
            "by_gender": dict(+genders),
            "by_language": dict(languages),
            "by_platform": dict(platforms),
            "women_share": round(genders["female"] / disclosed, 4) if disclosed else None,
        },
        "groups": groups,
        "notifications": {"by_state": dict(states)},
    }


FLOWS: dict[str, type[Event]] = {
    "members.joined": MemberJoined,
    "members.left": MemberLeft,
    "members.merged": MemberMerged,
    "members.unmerged": MemberUnmerged,
    "placements.assigned": GroupMemberAssigned,
    "placements.waiting": GroupMemberWaiting,
    "placements.removed": GroupMemberRemoved,
    "welcomes.queued": NotificationQueued,
    "welcomes.sent": NotificationSent,
    "welcomes.suppressed": NotificationSuppressed,
    "welcomes.failed": NotificationFailed,
}


def recount_day(facts: Sequence[Envelope[Any]], unit: str, metric: str, day: date) -> int:
    """How many events of the metric happened on `day` in India, each counted once."""

    def counts(event: Envelope[Any]) -> bool:
        when = event.data.joined_at if isinstance(event.data, MemberJoined) else event.time
        return (
            isinstance(event.data, FLOWS[metric])
            and in_subtree(event.data.unit, unit)  # type: ignore[attr-defined]
            and (when + timedelta(hours=5, minutes=30)).date() == day
            and getattr(event.data, "purpose", "welcome") == "welcome"
        )

    return sum(counts(event) for event in facts)


def snapshots(facts: Sequence[Envelope[Any]], upto: Callable[[int], int] = int) -> list[Envelope[Any]]:
    """The snapshot of each subject after its first `upto(<how many there are>)` events."""
    histories: dict[tuple[str, str], list[Envelope[Any]]] = {}
    for event in sorted(facts, key=lambda e: e.sequence):
        histories.setdefault((event.data.topic, event.subject), []).append(event)
    heard = [history[: upto(len(history))] for history in histories.values()]
    return [snapshot_of(history) for history in heard if history]


def snapshot_of(history: Sequence[Envelope[Any]]) -> Envelope[Any]:
    """One subject as it is after these events, with their last sequence."""
    return envelope(_whole([event.data for event in history]), history[-1].sequence, history[-1].time)


def _whole(history: Sequence[Any]) -> Event:
    match history[0]:
        case MemberJoined():
            return _member(history[0], history)
        case GroupCreated():
            return _group(history[0], history)
        case GroupMemberAssigned() | GroupMemberWaiting():
            return _placement(history[-1])
        case NotificationQueued() | NotificationSuppressed() | NotificationSent() | NotificationFailed():
            state = history[-1].event_type.removeprefix("notification.")
            return NotificationSnapshot(**{**history[-1].model_dump(), "state": state, "created_at": BEGIN})
        case _:
            last: Event = history[-1]
            return last


def _group(created: GroupCreated, history: Sequence[Any]) -> GroupSnapshot:
    links = [e.invite_ready for e in history if isinstance(e, GroupInviteChanged)]
    sizes = [e.capacity for e in history if not isinstance(e, GroupInviteChanged)]
    now = {"capacity": sizes[-1], "invite_ready": bool(links and links[-1])}
    return GroupSnapshot(**{**created.model_dump(), **now})


def _placement(last: Any) -> PlacementSnapshot:
    seat: dict[str, Any] = {"state": "left"}
    if isinstance(last, GroupMemberAssigned):
        seat = {"state": "assigned", "group_id": last.group_id, "ordinal": last.ordinal}
    elif isinstance(last, GroupMemberWaiting):
        seat = {"state": "waiting_unit"}
    return PlacementSnapshot(member_id=last.member_id, unit=last.unit, kind="general", since=BEGIN, **seat)


def _member(joined: MemberJoined, history: Sequence[Any]) -> MemberSnapshot:
    profile = [e for e in history if isinstance(e, MemberJoined | MemberUpdated)][-1]
    coarse = profile.model_dump(include={"gender", "language", "platforms", "own_number"})
    left = isinstance(history[-1], MemberLeft)
    status = {"unit": history[-1].unit, "status": "left" if left else "active"}
    return MemberSnapshot(**{**joined.model_dump(), **coarse, **status})
