"""Failures of senders and of other services, and events that arrive while a message is being sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.notifications.core.domain import OutcomeClass, SendOutcome, State
from services.shared.errors import TransientError
from tests.integration.notifications.conftest import (
    Bench,
    Replica,
    assigned,
    invite,
    joined,
    left,
    moved,
    removed,
    updated,
)
from tests.integration.notifications.scripted import SENT, Scripted, queued
from tests.integration.notifications.stand_ins import Peers, link_of


@pytest.mark.parametrize("peer", ["members", "groups"])
@pytest.mark.parametrize("status", [503, 403, 500])
async def test_while_a_peer_is_down_nothing_is_lost_and_no_try_is_counted(
    bench: Bench, peers: Peers, peer: str, status: int
):
    member, _ = await queued(bench, peers)
    peers.down, peers.status = {peer}, status
    for _ in range(bench.settings.send_tries + 1):
        with pytest.raises(TransientError) as raised:
            await bench.dispatch()
        assert "9876543210" not in str(raised.value)
    n = await bench.welcome(member)
    assert (n.state, n.attempts, n.claim) == (State.QUEUED, (), None)
    peers.down.clear()
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_the_loop_survives_a_peer_that_is_down_and_is_woken_by_a_link(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group))
    peers.down = {"members"}
    stop = asyncio.Event()
    running = asyncio.create_task(bench.dispatcher.run(stop))
    await bench.deliver(invite(group, 1))
    await asyncio.sleep(0.3)
    assert (await bench.welcome(member)).attempts == ()
    peers.down.clear()
    async with asyncio.timeout(5):
        while (await bench.welcome(member)).state is not State.SENT:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    stop.set()
    async with asyncio.timeout(2):
        await running


async def test_a_cancelled_dispatch_gives_its_claim_back(bench: Bench, peers: Peers, replica: Replica):
    member, _ = await queued(bench, peers)
    slow = Scripted()
    slow.gate = asyncio.Event()
    task = asyncio.create_task(replica(slow).dispatch())
    await slow.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await bench.welcome(member)).state is State.QUEUED
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_a_transient_failure_is_tried_again_later_and_given_up_in_the_end(
    bench: Bench, peers: Peers, replica: Replica
):
    member, _ = await queued(bench, peers)
    one = replica(Scripted(SendOutcome(OutcomeClass.TRANSIENT, "throttled")))
    for tries in range(1, bench.settings.send_tries + 1):
        assert await one.dispatch() == 1
        n = await bench.welcome(member)
        assert len(n.attempts) == tries
        assert await one.dispatch() == 0  # not before its time
        await bench.passes(timedelta(hours=1))
    assert (n.state, n.reason) == (State.FAILED, "tries_exhausted")
    last = (await bench.events(n.id))[-1]
    assert last.data.model_dump()["error_class"] == "tries_exhausted"
    assert last.sequence == 2


async def test_a_permanent_failure_ends_it(bench: Bench, peers: Peers, replica: Replica):
    member, _ = await queued(bench, peers)
    await replica(Scripted(SendOutcome(OutcomeClass.PERMANENT, "not_on_whatsapp"))).dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.FAILED, "not_on_whatsapp")
    assert [e.type for e in await bench.events(n.id)] == ["notification.queued", "notification.failed"]


async def test_an_address_that_comes_later_brings_the_welcome(bench: Bench, peers: Peers):
    member, group = peers.add_member(email=None), peers.add_group()
    peers.consents(member, "email")
    await bench.deliver(joined(member, channels=("email",)), assigned(member, group, ready=True))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.held_for, n.channel) == (State.QUEUED, "no_address", "email")
    assert await bench.dispatch() == 0, "an hour is not over"
    peers.add_member(member, email="asha@example.org")
    peers.consents(member, "email")
    await bench.deliver(updated(member, 2))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert n.state is State.SENT
    message = await bench.recorded(n.id)
    assert message is not None
    assert message["address"] == "asha@example.org"


async def test_an_address_whose_event_came_while_it_was_looked_for_is_found_within_an_hour(
    bench: Bench, peers: Peers
):
    member, group = peers.add_member(email=None), peers.add_group()
    peers.consents(member, "email")
    await bench.deliver(joined(member, channels=("email",)), assigned(member, group, ready=True))
    await bench.dispatch()
    await bench.passes(timedelta(hours=1))
    await bench.dispatch()
    assert (await bench.welcome(member)).held_for == "no_address"
    peers.add_member(member, email="asha@example.org")
    peers.consents(member, "email")
    await bench.passes(timedelta(hours=1))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert n.state is State.SENT
    assert n.held_for is None


async def test_a_link_withdrawn_meanwhile_is_waited_for_too(bench: Bench, peers: Peers):
    member, group = peers.add_member(email=None), peers.add_group()
    peers.consents(member, "email")
    await bench.deliver(joined(member, channels=("email",)), assigned(member, group, ready=True))
    await bench.dispatch()
    await bench.deliver(invite(group, 2, ready=False))
    assert (await bench.welcome(member)).held_for == "no_invite"


async def test_an_e_mail_goes_to_the_e_mail_address(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    peers.consents(member, "email")
    await bench.deliver(joined(member, channels=("email",)), assigned(member, group, ready=True))
    await bench.dispatch()
    message = await bench.recorded((await bench.welcome(member)).id)
    assert message is not None
    assert message["address"] == "asha@example.org"


async def test_who_members_says_has_left_is_not_welcomed(bench: Bench, peers: Peers):
    member, _ = await queued(bench, peers, status="left")
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.SUPPRESSED, "left")
    await bench.deliver(left(member, 2))
    assert (await bench.welcome(member)).sequence == 2


@pytest.mark.parametrize("missing", ["link", "group"])
async def test_when_a_peer_does_not_know_what_we_heard_it_waits_for_the_news(
    bench: Bench, peers: Peers, missing: str
):
    member, group = await queued(bench, peers)
    if missing == "link":
        peers.add_group(group, link=None)
    else:
        del peers.groups[group]
    assert await bench.dispatch() == 1
    assert await bench.dispatch() == 0
    n = await bench.welcome(member)
    assert (n.state, n.attempts) == (State.QUEUED, ())
    peers.add_group(group)
    await bench.passes(timedelta(seconds=31))
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_who_leaves_while_it_is_being_sent_is_not_tried_again(
    bench: Bench, peers: Peers, replica: Replica
):
    member, group = await queued(bench, peers)
    sender = Scripted(SendOutcome(OutcomeClass.TRANSIENT, "throttled"))
    sender.gate = asyncio.Event()
    sending = asyncio.create_task(replica(sender).dispatch())
    await sender.reached.wait()
    await bench.deliver(left(member, 2), removed(member, group, 2))
    sender.gate.set()
    await sending
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.SUPPRESSED, "left")


async def test_who_moves_while_it_is_being_sent_gets_the_new_link_at_the_next_try(
    bench: Bench, peers: Peers, replica: Replica
):
    member, old = await queued(bench, peers)
    new = peers.add_group()
    sender = Scripted(SendOutcome(OutcomeClass.TRANSIENT, "throttled"), SENT)
    sender.gate = asyncio.Event()
    one = replica(sender)
    sending = asyncio.create_task(one.dispatch())
    await sender.reached.wait()
    await bench.deliver(moved(member, 2), removed(member, old, 2), assigned(member, new, 3))
    sender.gate.set()
    await sending
    await bench.passes(timedelta(hours=1))
    assert await one.dispatch() == 0
    assert (await bench.welcome(member)).held_for == "no_invite"
    await bench.deliver(invite(new, 1))
    await one.dispatch()
    assert (await bench.welcome(member)).state is State.SENT
    assert link_of(new) in sender.sent[-1].text
