"""A replayed old event never overwrites a newer state."""

from __future__ import annotations

from typing import Any

import pytest

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupUpdated,
    UnitUpserted,
)
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberUpdated
from services.shared.contracts.notifications import NotificationFailed, NotificationQueued, NotificationSent
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from tests.fixtures.letters import live_through, subsets
from tests.integration.analytics.conftest import Analytics
from tests.unit.analytics.streams import BEGIN, envelope


def member(a: str, b: str) -> list[Event]:
    id_, coarse = new_id(), {"language": "hi", "platforms": ("whatsapp",)}
    return [
        MemberJoined(member_id=id_, unit=a, gender=Gender.FEMALE, joined_at=BEGIN, **coarse),
        MemberUpdated(member_id=id_, unit=a, gender=Gender.OTHER, **coarse),
        MemberMoved(member_id=id_, from_unit=a, unit=b),
        MemberLeft(member_id=id_, unit=b),
    ]


def member_who_stays(a: str, b: str) -> list[Event]:
    return member(a, b)[:-1]


def placement(a: str, b: str) -> list[Event]:
    id_ = new_id()
    one = {"member_id": id_, "group_id": new_id(), "unit": a, "kind": "general", "ordinal": 1}
    two = {**one, "group_id": new_id(), "unit": b}
    return [
        GroupMemberWaiting(member_id=id_, unit=a, reason="waiting_unit"),
        GroupMemberAssigned(**one, invite_ready=True),
        GroupMemberRemoved(**one, reason="moved"),
        GroupMemberAssigned(**two, invite_ready=True),
    ]


def group(a: str, b: str) -> list[Event]:
    about: dict[str, Any] = {"group_id": new_id(), "unit": b}
    size: dict[str, Any] = {"kind": "general", "ordinal": 1}
    return [
        GroupCreated(**about, **size, capacity=5),
        GroupInviteChanged(**about, invite_ready=True),
        GroupUpdated(**about, **size, capacity=3),
        GroupFilled(**about, **size, capacity=3),
        GroupInviteChanged(**about, invite_ready=False),
    ]


def notification(a: str, b: str) -> list[Event]:
    about: dict[str, Any] = {"notification_id": new_id(), "member_id": new_id(), "unit": b}
    about |= {"purpose": "welcome", "template": "welcome", "language": "hi"}
    last = NotificationFailed(**about, sender="s", attempts=2, error_class="refused")
    return [NotificationQueued(**about), NotificationSent(**about, sender="s", attempts=1), last]


async def figures(analytics: Analytics, root: str) -> dict[str, Any]:
    overview: dict[str, Any] = await analytics.ok("/v1/overview", unit=root)
    days: dict[str, int] = {}
    async for row in analytics.runtime.database["days"].find({"unit": root}):
        for subject, values in row["values"].items():
            for metric, n in values.items():
                days[f"{row['day']} {subject}.{metric}"] = n
    return {**overview, "unit": "root", "as_of": None, "days": days}


@pytest.mark.parametrize("story", [member, member_who_stays, placement, group, notification])
async def test_figures_are_those_of_the_newest_events(analytics: Analytics, story: Any) -> None:
    def history(root: str) -> list[Envelope[Any]]:
        return [envelope(event, n) for n, event in enumerate(story(f"{root}-A", f"{root}-B"), 1)]

    choices = subsets(len(story("X", "Y")))
    roots = ["BR", *(f"T{n}" for n in range(len(choices)))]
    await analytics.feed([envelope(UnitUpserted(unit=root, level="state"), 1) for root in roots])
    await live_through(analytics.service, history("BR"))
    expected = await figures(analytics, "BR")
    assert any(expected["days"].values()) or story is group
    for root, dead in zip(roots[1:], choices, strict=True):
        await live_through(analytics.service, history(root), dead)
        assert await figures(analytics, root) == expected, dead


async def test_gaps_in_the_sequence_are_applied_and_repeats_of_a_sequence_are_not(
    analytics: Analytics,
) -> None:
    joined, updated, moved, _ = member("BR-A", "BR-B")
    events = [envelope(event, n) for event, n in ((joined, 3), (updated, 5), (moved, 9))]
    await live_through(analytics.service, events)
    settled = await figures(analytics, "BR")
    assert settled["members"]["total"] == 1
    elsewhere = MemberMoved(member_id=moved.subject, from_unit="BR-B", unit="BR-A")
    repeats = [envelope(joined, 3), envelope(updated, 5), envelope(elsewhere, 9)]
    await live_through(analytics.service, repeats)
    assert await figures(analytics, "BR") == settled
    assert (await figures(analytics, "BR-A"))["members"]["total"] == 0
