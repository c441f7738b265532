"""A replayed old event never overwrites a newer state."""

from __future__ import annotations

from typing import Any

import pytest

from services.shared.contracts.base import Envelope
from services.shared.ids import new_id
from tests.fixtures.letters import live_through, subsets
from tests.integration.notifications.conftest import (
    Bench,
    assigned,
    invite,
    joined,
    left,
    moved,
    removed,
    updated,
)


def history(stays: bool) -> list[Envelope[Any]]:
    member, first, second = (new_id() for _ in range(3))
    events = [
        joined(member, language="hi"),
        assigned(member, first, 1, ready=True),
        updated(member, 2, language="en", contact_changed=True),
        moved(member, 3),
        removed(member, first, 2),
        assigned(member, second, 3),
        invite(second, 3),
        invite(second, 4, ready=False),
    ]
    return events if stays else [*events[1:5], events[0], left(member, 4)]


async def state(bench: Bench, events: list[Envelope[Any]]) -> tuple[Any, ...]:
    """The recipient and the welcome, with ids that differ from run to run replaced by what they are."""
    member = next(e.subject for e in events if e.data.topic == "sangathan.members")
    groups = [e.data.group_id for e in events if hasattr(e.data, "group_id")]
    names = {member: "member"} | {id_: f"group {n}" for n, id_ in enumerate(dict.fromkeys(groups))}
    recipient = await bench.database["recipients"].find_one({"_id": member})
    assert recipient is not None
    welcome = await bench.welcome(member)
    kept = ["state", "unit", "reason"]
    if welcome.state.is_open:  # a finished one keeps what was known when it was finished
        kept += ["language", "channel", "group_id", "held_for"]
        assert welcome.held_for is None or welcome.due_at == welcome.waits_until
    told = [recipient, {name: getattr(welcome, name) for name in kept}]
    return tuple({k: names.get(str(v), v) for k, v in part.items()} for part in told)


@pytest.mark.parametrize("stays", [True, False])
async def test_a_member_is_known_and_welcomed_by_the_newest_events(bench: Bench, stays: bool) -> None:
    straight = history(stays)
    await live_through(bench.service, straight)
    expected = await state(bench, straight)
    for dead in subsets(len(straight)):
        events = history(stays)
        await live_through(bench.service, events, dead)
        assert await state(bench, events) == expected, dead


async def test_gaps_in_the_sequence_are_applied_and_repeats_of_a_sequence_are_not(bench: Bench) -> None:
    member, group = new_id(), new_id()
    events = [joined(member, 3), moved(member, 7), assigned(member, group, 4), invite(group, 5)]
    await live_through(bench.service, events)
    settled = await state(bench, events)
    assert settled[0]["unit"] == "BR-GAYA"
    repeats = [
        joined(member, 3, language="en", channels=()),
        moved(member, 7, unit="BR-SARAN"),
        assigned(member, new_id(), 4),
        invite(group, 5, ready=False),
    ]
    await live_through(bench.service, repeats)
    assert await state(bench, events) == settled
