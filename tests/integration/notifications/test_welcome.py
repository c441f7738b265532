"""One welcome per member, whatever the order of events, on the real store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.notifications.core.domain import State
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupMemberRedrawn, UnitSucceeded
from services.shared.contracts.members import MemberMoved
from services.shared.ids import new_id
from services.shared.messaging import UnitOfWork
from tests.integration.notifications.conftest import (
    Bench,
    assigned,
    consented,
    envelope,
    invite,
    joined,
    left,
    merged,
    moved,
    removed,
    unmerged,
    updated,
)
from tests.integration.notifications.stand_ins import Peers, link_of


async def test_a_member_who_consented_is_welcomed_once_the_group_has_a_link(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member, channels=("sms", "whatsapp")))
    assert (await bench.welcome(member)).held_for == "no_group"
    await bench.deliver(assigned(member, group))
    assert (await bench.welcome(member)).held_for == "no_invite"
    assert await bench.dispatch() == 0
    await bench.deliver(invite(group, 1))
    assert await bench.dispatch() == 1

    n = await bench.welcome(member)
    assert (n.state, n.channel, n.language, len(n.attempts)) == (State.SENT, "whatsapp", "hi", 1)
    message = await bench.recorded(n.id)
    assert message is not None
    assert message["address"] == "+919876543210"
    assert all(part in message["text"] for part in ("आशा देवी", "सारण समूह", link_of(group), "STOP"))
    events = await bench.events(n.id)
    assert [(e.sequence, e.type) for e in events] == [(1, "notification.queued"), (2, "notification.sent")]
    assert {e.correlation_id for e in events} == {"request-1"}
    assert events[1].data.model_dump() == {
        "notification_id": n.id,
        "member_id": member,
        "unit": "BR-SARAN",
        "purpose": "welcome",
        "template": "welcome",
        "language": "hi",
        "channel": "whatsapp",
        "group_id": n.group_id,
        "sender": "recording",
        "attempts": 1,
        "without": None,
    }


async def test_the_hint_of_an_assignment_is_enough_and_frees_the_others(bench: Bench, peers: Peers):
    first, second, group = peers.add_member(), peers.add_member(), peers.add_group()
    await bench.deliver(joined(first), assigned(first, group), joined(second))
    await bench.deliver(assigned(second, group, ready=True))
    assert await bench.dispatch() == 2
    assert {(await bench.welcome(m)).state for m in (first, second)} == {State.SENT}


async def test_what_the_group_said_weighs_more_than_a_hint(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(invite(group, 2, ready=False), joined(member), assigned(member, group, ready=True))
    assert (await bench.welcome(member)).held_for == "no_invite"


async def test_a_withdrawn_link_holds_what_has_not_been_sent(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group), invite(group, 1))
    await bench.deliver(invite(group, 2, ready=False), invite(group, 1))
    assert await bench.dispatch() == 0
    assert (await bench.welcome(member)).held_for == "no_invite"


async def test_without_consent_nothing_is_sent_and_that_is_said(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(invite(group, 1), assigned(member, group), joined(member, channels=()))
    assert await bench.dispatch() == 0
    n = await bench.welcome(member)
    assert (n.state, n.reason, n.channel) == (State.SUPPRESSED, "no_consent", None)
    assert [(e.sequence, e.type) for e in await bench.events(n.id)] == [(1, "notification.suppressed")]
    assert member not in peers.asked("members")


async def test_who_came_with_a_silent_import_is_not_welcomed(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(
        joined(member, channels=(), announced=False), assigned(member, group, ready=True), invite(group, 1)
    )
    assert await bench.dispatch() == 0
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.SUPPRESSED, "not_announced")


async def test_a_forged_silence_keeps_nobody_from_a_welcome(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member, channels=(), announced=False), assigned(member, group, ready=True))
    await bench.deliver(joined(member))
    assert await bench.dispatch() == 1
    assert (await bench.welcome(member)).state is State.SENT


async def test_who_leaves_before_it_is_sent_is_not_welcomed(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), left(member, 2), assigned(member, group, ready=True))
    assert await bench.dispatch() == 0
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.SUPPRESSED, "left")
    assert [(e.sequence, e.type) for e in await bench.events(n.id)] == [
        (1, "notification.queued"),
        (2, "notification.suppressed"),
    ]


async def test_a_move_while_held_sends_the_new_groups_link(bench: Bench, peers: Peers):
    member, old, new = peers.add_member(), peers.add_group(), peers.add_group(unit="BR-GAYA")
    await bench.deliver(joined(member), assigned(member, old), moved(member, 2), removed(member, old, 2))
    await bench.deliver(assigned(member, new, 3), invite(old, 1))
    peers.add_member(member, unit="BR-GAYA")
    assert await bench.dispatch() == 0
    await bench.deliver(invite(new, 1))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.unit, n.group_id) == (State.SENT, "BR-GAYA", new)
    message = await bench.recorded(n.id)
    assert message is not None
    assert link_of(new) in message["text"]
    assert link_of(old) not in message["text"]


async def test_a_move_after_it_was_sent_brings_no_second_one(bench: Bench, peers: Peers):
    member, old, new = peers.add_member(), peers.add_group(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, old, ready=True))
    await bench.dispatch()
    await bench.deliver(moved(member, 2), removed(member, old, 2), assigned(member, new, 3, ready=True))
    assert await bench.dispatch() == 0
    n = await bench.welcome(member)
    assert (n.state, n.unit, n.sequence) == (State.SENT, "BR-GAYA", 2)


async def test_a_language_without_a_template_gets_hindi_and_says_so(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member, language="mai"), assigned(member, group, ready=True))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert n.language == "hi"
    message = await bench.recorded(n.id)
    assert message is not None
    assert (message["language"], "स्वागत" in message["text"]) == ("hi", True)


async def test_the_language_is_that_of_the_moment_of_sending(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(
        joined(member), updated(member, 2, language="en"), assigned(member, group, ready=True)
    )
    await bench.dispatch()
    message = await bench.recorded((await bench.welcome(member)).id)
    assert message is not None
    assert (message["language"], "Saran group" in message["text"]) == ("en", True)


async def test_a_link_that_comes_while_somebody_is_being_assigned_is_not_missed(bench: Bench, peers: Peers):
    """The transactions overlap; under snapshot isolation each would miss the other without a conflict."""
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member))
    handlers = bench.service.consumer.applier._handlers  # type: ignore[union-attr]
    other: list[asyncio.Task[None]] = []

    async def link_comes(work: UnitOfWork) -> None:
        event: Any = invite(group, 1)
        await handlers[type(event.data)]([event], work)

    async def assign(work: UnitOfWork) -> None:
        event = assigned(member, group)
        await handlers[type(event.data)]([event], work)
        if not other:
            other.append(asyncio.create_task(bench.runtime.outbox.transact(link_comes)))
            await asyncio.sleep(0.3)

    await bench.runtime.outbox.transact(assign)
    await other[0]
    assert (await bench.welcome(member)).held_for is None


async def test_a_thousand_members_are_welcomed_in_batches(bench: Bench, peers: Peers):
    group = peers.add_group()
    members = [peers.add_member() for _ in range(1000)]
    await bench.deliver(*[joined(m) for m in members])
    await bench.deliver(*[assigned(m, group, ready=True) for m in members])
    while await bench.dispatch():
        pass
    assert await bench.database["recorded_messages"].count_documents({}) == 1000
    assert [len(ids) for name, ids in peers.calls if name == "members"] == [200] * 5


async def test_who_is_unknown_so_far_gets_nothing(bench: Bench):
    member, group = new_id(), new_id()
    await bench.deliver(assigned(member, group, ready=True), moved(member, 2))
    assert await bench.database["notifications"].count_documents({}) == 0


async def test_a_consent_withdrawn_before_it_is_sent_stops_it_at_once(bench: Bench, peers: Peers) -> None:
    member, group = peers.add_member(consents=[]), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group, ready=True), consented(member, 2))
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.SUPPRESSED, "no_consent")
    assert await bench.dispatch() == 0
    assert member not in peers.asked("members")
    assert [e.type for e in await bench.events(n.id)] == ["notification.queued", "notification.suppressed"]


async def test_a_consent_given_within_a_day_brings_the_welcome(bench: Bench, peers: Peers) -> None:
    member, late, group = peers.add_member(), peers.add_member(), peers.add_group()
    for each in (member, late):
        await bench.deliver(joined(each, channels=()), assigned(each, group, ready=True))
    await bench.deliver(consented(member, 2, "sms"))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.SENT, None)
    await bench.passes(timedelta(hours=25))
    await bench.deliver(consented(late, 2, "sms"))
    assert await bench.dispatch() == 0
    assert (await bench.welcome(late)).state is State.SUPPRESSED


async def test_a_forged_consent_sends_nothing(bench: Bench, peers: Peers) -> None:
    member, group = peers.add_member(consents=[]), peers.add_group()
    await bench.deliver(joined(member, channels=()), assigned(member, group, ready=True))
    await bench.deliver(consented(member, 2, "whatsapp", "sms"))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason, n.attempts) == (State.SUPPRESSED, "no_consent", ())


async def test_a_withdrawal_heard_before_the_joining_stands(bench: Bench, peers: Peers) -> None:
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(consented(member, 2), assigned(member, group, ready=True))
    await bench.deliver(joined(member))
    assert await bench.dispatch() == 0
    assert (await bench.welcome(member)).reason == "no_consent"


async def test_who_was_merged_gets_nothing_and_whoever_stands_for_them_their_own_welcome(
    bench: Bench, peers: Peers
) -> None:
    one, other, group = peers.add_member(), peers.add_member(), peers.add_group()
    await bench.deliver(joined(one), joined(other), assigned(one, group), assigned(other, group))
    await bench.deliver(merged(other, 2, one))
    await bench.deliver(consented(other, 1, "sms", "whatsapp"))
    await bench.deliver(invite(group, 1))
    assert await bench.dispatch() == 1
    assert (await bench.welcome(one)).state is State.SENT
    n = await bench.welcome(other)
    assert (n.state, n.reason) == (State.SUPPRESSED, "merged")
    await bench.deliver(unmerged(other, 3, one))
    assert await bench.dispatch() == 0
    assert (await bench.welcome(other)).state is State.SUPPRESSED, "no second welcome"


@pytest.mark.parametrize("first", ["merged", "joined"])
async def test_after_a_merge_with_somebody_welcomed_there_is_no_second_welcome(
    bench: Bench, peers: Peers, first: str
) -> None:
    """The merge may arrive first, or the survivor's own events, whose welcome waits for a link."""
    one, other, group, closed = peers.add_member(), peers.add_member(), peers.add_group(), peers.add_group()
    await bench.deliver(joined(other), assigned(other, group, ready=True))
    assert await bench.dispatch() == 1
    events = [merged(other, 2, one)], [joined(one), assigned(one, closed)]
    for batch in events if first == "merged" else reversed(events):
        await bench.deliver(*batch)
    await bench.deliver(invite(closed, 1))
    assert await bench.dispatch() == 0
    n = await bench.welcome(one)
    assert (n.state, n.reason) == (State.SUPPRESSED, "welcomed_already")


async def test_a_consent_that_came_with_a_merge_makes_no_welcome(bench: Bench, peers: Peers) -> None:
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member, channels=()), assigned(member, group, ready=True))
    given = consented(member, 2, "whatsapp").data.model_copy(update={"announced": False})
    await bench.deliver(envelope(given, 2))
    assert await bench.dispatch() == 0
    assert (await bench.welcome(member)).state is State.SUPPRESSED


async def test_who_has_no_number_is_never_written_to_and_who_gets_one_is_welcomed(
    bench: Bench, peers: Peers
) -> None:
    """By the events alone; by what members says, where a release that does not know such members published
    them; and not by e-mail either."""
    without, old, group = new_id(), new_id(), peers.add_group()
    for member in (without, old):
        peers.add_member(member, own_number=False, consents=[], phone="", email=None)
    await bench.deliver(invite(group, 1), assigned(without, group), assigned(old, group))
    await bench.deliver(joined(without, channels=("sms", "email"), own_number=False), joined(old))
    n = await bench.welcome(without)
    assert (n.state, n.reason) == (State.SUPPRESSED, "no_number")
    await bench.dispatch()
    n = await bench.welcome(old)
    assert (n.state, n.reason) == (State.SUPPRESSED, "no_number")

    peers.add_member(without)
    await bench.deliver(updated(without, 3))
    await bench.deliver(updated(without, 2, own_number=False))
    await bench.dispatch()
    assert (await bench.welcome(without)).state is State.SENT
    assert await bench.recorded((await bench.welcome(old)).id) is None


async def test_who_loses_the_number_while_the_welcome_waits_gets_none(bench: Bench, peers: Peers) -> None:
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group))
    await bench.deliver(updated(member, 2, own_number=False))
    await bench.deliver(invite(group, 1))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.SUPPRESSED, "no_number")


@pytest.mark.parametrize("first", ["unit", "member", "seat"])
async def test_nobody_is_welcomed_because_a_unit_was_redrawn(bench: Bench, peers: Peers, first: str) -> None:
    """A welcome that waits goes on waiting for the same group; nobody gets a second one."""
    member, waiting, group = peers.add_member(), peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group, ready=True))
    assert await bench.dispatch() == 1
    await bench.deliver(invite(group, 1, ready=False), joined(waiting), assigned(waiting, group))
    before = await bench.welcome(member)
    heard: dict[str, list[Envelope[Event]]] = {"unit": [], "member": [], "seat": []}
    successor = UnitSucceeded(unit="BR-SARAN", successors=("BR-SARANNEW",), redrawing_id=new_id())
    heard["unit"].append(envelope(successor, 2))
    for id_ in (member, waiting):
        move = MemberMoved(member_id=id_, from_unit="BR-SARAN", unit="BR-SARANNEW", cause="redrawn")
        heard["member"].append(envelope(move, 2))
        seat = GroupMemberRedrawn(
            member_id=id_,
            group_id=group,
            unit="BR-SARANNEW",
            member_unit="BR-SARANNEW",
            kind="general",
            ordinal=1,
        )
        heard["seat"].append(envelope(seat, 2))
    for word in sorted(heard, key=lambda each: each != first):
        await bench.deliver(*heard[word])
        assert await bench.dispatch() == 0
    after = await bench.welcome(member)
    assert (after.id, after.state, after.attempts) == (before.id, State.SENT, before.attempts)
    assert len(await bench.events(after.id)) == 2
    assert (await bench.welcome(waiting)).held_for == "no_invite"
    await bench.deliver(invite(group, 2))
    assert await bench.dispatch() == 1
    assert (await bench.welcome(waiting)).state is State.SENT
