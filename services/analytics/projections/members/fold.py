"""Members: counted from `member.joined` until they leave or are merged, by what is newest of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from services.analytics.core.counting import Count, EventMapping, Flow, Projection, flow, rollup
from services.analytics.core.facts import Fact, Statement, word
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import (
    REDRAWN,
    MemberConsentChanged,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberRolesChanged,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)


def counted(fact: Fact) -> Iterator[Count]:
    """Events of a member before `member.joined` (a dead letter) are kept, and count when it arrives."""
    if not fact.get("joined") or fact.get("left") or fact.get("merged"):
        return
    unit = fact["unit"]
    yield unit, "members.total", 1
    if fact.get("own_number") is False:
        yield unit, "members.without_number", 1
    yield unit, f"members.by_gender.{fact['gender']}", 1
    yield unit, f"members.by_language.{fact['language']}", 1
    for platform in fact["platforms"]:
        yield unit, f"members.by_platform.{platform}", 1


def _profile(
    event: MemberJoined | MemberUpdated | MemberSnapshot | MemberMerged | MemberUnmerged,
) -> Statement:
    return {
        "unit": event.unit,
        "gender": event.gender.value,
        "language": word(event.language),
        "platforms": sorted({word(platform) for platform in event.platforms}),
        "own_number": event.own_number,
    }


def _joined(event: MemberJoined) -> Statement:
    return {**_profile(event), "joined": True}


def _located(event: MemberMoved | MemberConsentChanged | MemberRolesChanged) -> Statement:
    return {"unit": event.unit}


def _left(event: MemberLeft) -> Statement:
    return {"unit": event.unit, "left": True}


def _erased(event: MemberErasureRequested) -> Statement:
    """Attributes are stated as unknown: an older event that comes late does not bring them back."""
    return {
        "unit": event.unit,
        "left": True,
        "gender": None,
        "language": None,
        "platforms": [],
        "own_number": None,
    }


def _erased_flows(event: Envelope[MemberErasureRequested]) -> Iterator[Flow]:
    """A member who was still active leaves by it; the request may be published again."""
    if event.data.status == "active" and event.data.attempt == 1:
        yield "members.left", event.time, rollup(event.data.unit)


def _snapshot(event: MemberSnapshot) -> Statement:
    merged = event.merged_into is not None
    left = event.status == "left" and not merged
    return {**_profile(event), "joined": True, "left": left, "merged": merged}


def _merged(event: MemberMerged) -> Statement:
    return {**_profile(event), "merged": True}


def _unmerged(event: MemberUnmerged) -> Statement:
    return {**_profile(event), "merged": False, "left": event.status == "left"}


def _joined_flows(event: Envelope[MemberJoined | MemberSnapshot]) -> Iterator[Flow]:
    """By the day the member joined, which for an import is not the day of the event."""
    yield "members.joined", event.data.joined_at, rollup(event.data.unit)


def _moved_flows(event: Envelope[MemberMoved]) -> Iterator[Flow]:
    """A move within a unit is neither into it nor out of it. Where the unit itself became another one nobody
    moved, and the days of the old one and the new one say so."""
    before, after = rollup(event.data.from_unit), rollup(event.data.unit)
    word = "redrawn" if event.data.cause == REDRAWN else "moved"
    yield f"members.{word}_in", event.time, set(after) - set(before)
    yield f"members.{word}_out", event.time, set(before) - set(after)


MEMBERS = Projection(
    "members",
    1,
    ("members.",),
    counted,
    {
        MemberJoined: EventMapping(_joined, _joined_flows),
        MemberUpdated: EventMapping(_profile),
        MemberMoved: EventMapping(_located, _moved_flows),
        MemberLeft: EventMapping(_left, flow("members.left")),
        MemberMerged: EventMapping(_merged, flow("members.merged")),
        MemberUnmerged: EventMapping(_unmerged, flow("members.unmerged")),
        MemberErasureRequested: EventMapping(_erased, _erased_flows),
        MemberConsentChanged: EventMapping(_located),
        MemberRolesChanged: EventMapping(_located),
        MemberSnapshot: EventMapping(_snapshot, _joined_flows, whole=True),
    },
)
