"""Invites that are sent again: made once, with consent, and not when there is no reason left."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.notifications.core.domain import WELCOME, Notification, State, notification_id
from services.notifications.core.store import notification_of
from services.notifications.recovery.snapshots import notification as snapshot_of
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupInviteLapsed, GroupMemberObserved
from services.shared.contracts.members import MemberErasureRequested
from services.shared.ids import new_id
from tests.integration.notifications.conftest import (
    START,
    Bench,
    assigned,
    envelope,
    invite,
    joined,
    left,
    merged,
    removed,
)
from tests.integration.notifications.stand_ins import Peers


def lapsed(member_id: str, group_id: str, sequence: int = 5, attempt: int = 1) -> Envelope[Event]:
    event = GroupInviteLapsed(
        member_id=member_id,
        group_id=group_id,
        unit="BR-SARAN",
        kind="general",
        attempt=attempt,
        cause="never_came",
    )
    return envelope(event, sequence)


async def invites(bench: Bench, member_id: str) -> list[Notification]:
    rows = bench.database["notifications"].find({"member_id": member_id, "purpose": {"$ne": WELCOME}})
    return [notification_of(row) async for row in rows.sort("created_at", 1)]


async def one(bench: Bench, member_id: str) -> tuple[str, str | None]:
    [each] = await invites(bench, member_id)
    return each.state.value, each.reason


async def welcomed(bench: Bench, peers: Peers, *, reminders: bool = True) -> tuple[str, str]:
    """A member and group; the welcome has gone."""
    await bench.at_any_hour()
    member_id, group_id = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member_id), assigned(member_id, group_id), invite(group_id, 2))
    await bench.dispatch()
    assert (await bench.welcome(member_id)).state is State.SENT
    if reminders:
        peers.consents(member_id, "whatsapp", purpose="reminder")
    return member_id, group_id


async def test_an_invite_goes_with_the_link_once_however_often_it_is_asked_for(
    bench: Bench, peers: Peers
) -> None:
    member_id, group_id = await welcomed(bench, peers)
    again = lapsed(member_id, group_id)
    await bench.deliver(again, lapsed(member_id, group_id))
    await bench.deliver(again)
    await bench.dispatch()
    [made] = await invites(bench, member_id)
    assert made.id == notification_id("reminder", f"invite/{group_id}/1", member_id)
    assert (made.state, made.purpose, made.template) == (State.SENT, "reminder", "invite")
    message = await bench.recorded(made.id)
    assert message is not None
    assert group_id in message["text"], "the link"
    events = await bench.events(made.id)
    assert [e.type for e in events] == ["notification.queued", "notification.sent"]
    assert {e.data.group_id for e in events} == {group_id}  # type: ignore[attr-defined]
    row = await bench.database["notifications"].find_one({"_id": made.id})
    assert row is not None
    assert snapshot_of(row)[0].group_id == group_id
    await bench.deliver(lapsed(member_id, group_id, 6, attempt=2))
    await bench.dispatch()
    assert len(await invites(bench, member_id)) == 2


async def test_without_consent_to_reminders_no_invite_goes(bench: Bench, peers: Peers) -> None:
    member_id, group_id = await welcomed(bench, peers, reminders=False)
    await bench.deliver(lapsed(member_id, group_id))
    await bench.dispatch()
    assert await one(bench, member_id) == ("suppressed", "no_consent")


async def test_a_welcome_and_an_invite_are_never_on_their_way_together(bench: Bench) -> None:
    member_id, group_id = new_id(), new_id()
    await bench.deliver(joined(member_id), assigned(member_id, group_id))
    assert (await bench.welcome(member_id)).held_for == "no_invite"
    await bench.deliver(lapsed(member_id, group_id))
    assert await one(bench, member_id) == ("suppressed", "welcome_pending")


@pytest.mark.parametrize("ending", ["left", "erased", "merged", "joined", "removed"])
async def test_an_invite_without_a_reason_does_not_go(bench: Bench, peers: Peers, ending: str) -> None:
    member_id, group_id = await welcomed(bench, peers)
    await bench.deliver(invite(group_id, 3, ready=False))
    await bench.deliver(lapsed(member_id, group_id))
    [held] = await invites(bench, member_id)
    assert held.held_for == "no_invite"
    observed = GroupMemberObserved(
        member_id=member_id,
        group_id=group_id,
        unit="BR-SARAN",
        kind="general",
        state="joined",
        observed_at=START,
    )
    erased = MemberErasureRequested(member_id=member_id, unit="BR-SARAN", erasure_id=new_id())
    event, reason = {
        "left": (left(member_id, 8), "left"),
        "erased": (envelope(erased, 8), "left"),
        "merged": (merged(member_id, 8, new_id()), "merged"),
        "joined": (envelope(observed, 8), "joined"),
        "removed": (removed(member_id, group_id, 8), "no_seat"),
    }[ending]
    await bench.deliver(event)
    assert await one(bench, member_id) == ("suppressed", reason)
    await bench.deliver(invite(group_id, 4))
    await bench.dispatch()
    assert await one(bench, member_id) == ("suppressed", reason)


async def test_an_invite_that_waits_too_long_expires_in_the_same_queue(bench: Bench, peers: Peers) -> None:
    member_id, group_id = await welcomed(bench, peers)
    await bench.deliver(invite(group_id, 3, ready=False))
    await bench.deliver(lapsed(member_id, group_id))
    await bench.passes(timedelta(days=6))
    assert await bench.dispatch() == 0
    await bench.database["notifications"].update_many(
        {"expires_at": {"$type": "date"}},
        [{"$set": {"expires_at": {"$subtract": ["$expires_at", 8 * 86_400_000]}}}],
    )
    await bench.passes(timedelta(days=2))
    assert await bench.dispatch() == 1
    assert await one(bench, member_id) == ("suppressed", "expired")


async def test_a_link_that_comes_back_lets_the_invite_go(bench: Bench, peers: Peers) -> None:
    member_id, group_id = await welcomed(bench, peers)
    await bench.deliver(invite(group_id, 3, ready=False))
    await bench.deliver(lapsed(member_id, group_id))
    assert await bench.dispatch() == 0
    await bench.deliver(invite(group_id, 4))
    await bench.dispatch()
    assert await one(bench, member_id) == ("sent", None)
