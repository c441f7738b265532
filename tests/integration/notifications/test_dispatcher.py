"""Claims, failures of senders and peers, and two replicas at work at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import ConnectionFailure

from services.notifications.domain import Outcome, OutcomeClass, State
from services.notifications.senders.base import Message
from services.notifications.settings import NotificationsSettings
from services.notifications.store import Store
from services.shared.clock import ManualClock
from services.shared.eventkit.errors import TransientError
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
from tests.integration.notifications.peers import Peers, link_of

SENT = Outcome(OutcomeClass.SENT)


class Scripted:
    """Answers with the outcomes it is given, the last one for good; waits for `gate` when there is one."""

    name = "scripted"

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes) or [SENT]
        self.sent: list[Message] = []
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        self.sent += messages
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        return [outcome] * len(messages)


async def queued(bench: Bench, peers: Peers, **person: object) -> tuple[str, str]:
    """A member with a welcome that is due, and the group."""
    member, group = peers.add_member(**person), peers.add_group()  # type: ignore[arg-type]
    await bench.deliver(joined(member), assigned(member, group, ready=True))
    return member, group


Replica = Callable[[Scripted], Bench]


@pytest.fixture
def replica(bench: Bench) -> Iterator[Replica]:
    """Makes another process of the service, with a sender of its own."""
    made: list[Bench] = []

    def make(sender: Scripted) -> Bench:
        made.append(Bench(bench.settings, bench.clock, sender))
        return made[-1]

    yield make
    for one in made:
        one.kernel.client.close()


class Late:
    """A collection whose `update_many` comes after something else."""

    def __init__(self, inner: Any, first: Callable[[], Awaitable[object]]) -> None:
        self._inner = inner
        self._first = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def update_many(self, *args: Any) -> Any:
        await self._first()
        return await self._inner.update_many(*args)


async def test_a_claim_that_ran_out_is_taken_up_again(bench: Bench, peers: Peers):
    member, _ = await queued(bench, peers)
    now = bench.clock.now()
    claim, batch, _ = await bench.store.claim(now, now + timedelta(seconds=60), 200)
    assert [n.member_id for n in batch] == [member]
    assert await bench.dispatch() == 0
    bench.clock.advance(timedelta(seconds=61))
    assert await bench.dispatch() == 1
    n = await bench.welcome(member)
    assert (n.state, n.claim, n.claim != claim) == (State.SENT, None, True)


async def test_a_process_that_died_between_sending_and_recording_doubles_nothing(
    bench: Bench, peers: Peers, monkeypatch: pytest.MonkeyPatch
):
    member, _ = await queued(bench, peers)

    async def dies(body: object) -> None:
        raise ConnectionFailure("gone")

    with monkeypatch.context() as patched:
        patched.setattr(bench.kernel.outbox, "transact", dies)
        with pytest.raises(ConnectionFailure):
            await bench.dispatch()
    n = await bench.welcome(member)
    assert n.state is State.SENDING
    before = await bench.database["recorded_messages"].find_one({"_id": n.id})
    assert before is not None
    bench.clock.advance(timedelta(seconds=61))
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT
    assert await bench.database["recorded_messages"].find({}).to_list(None) == [before]


async def test_who_comes_back_after_the_claim_ran_out_records_nothing(
    bench: Bench, peers: Peers, replica: Replica
):
    member, _ = await queued(bench, peers)
    slow, quick = Scripted(), Scripted()
    slow.gate = asyncio.Event()
    zombie = asyncio.create_task(replica(slow).dispatch())
    await slow.reached.wait()
    bench.clock.advance(timedelta(seconds=61))
    await replica(quick).dispatch()
    slow.gate.set()
    await zombie
    n = await bench.welcome(member)
    assert (n.state, len(n.attempts), n.sequence) == (State.SENT, 1, 2)
    assert [e.sequence for e in await bench.events(n.id)] == [1, 2]


async def test_a_replica_that_comes_too_late_claims_nothing(bench: Bench, peers: Peers):
    """Both found the same notifications due; the other one stamped them first."""
    await queued(bench, peers)
    now = bench.clock.now()
    until = now + timedelta(seconds=60)
    late = Store(bench.database)
    late._notifications = Late(late._notifications, lambda: bench.store.claim(now, until, 200))  # type: ignore[assignment]
    _, batch, found = await late.claim(now, until, 200)
    assert (batch, found) == ([], 1)


async def test_a_link_that_goes_and_comes_back_does_not_end_a_running_claim(
    bench: Bench, peers: Peers, replica: Replica
):
    member, group = await queued(bench, peers)
    sender = Scripted()
    sender.gate = asyncio.Event()
    sending = asyncio.create_task(replica(sender).dispatch())
    await sender.reached.wait()
    await bench.deliver(invite(group, 1, ready=False), invite(group, 2))
    assert await bench.dispatch() == 0
    sender.gate.set()
    await sending
    assert (await bench.welcome(member)).state is State.SENT


async def test_two_replicas_share_the_work_and_send_each_message_once(
    bench: Bench, peers: Peers, replica: Replica
):
    group, sender = peers.add_group(), Scripted()
    members = [peers.add_member() for _ in range(450)]
    await bench.deliver(*[joined(m) for m in members], invite(group, 1))
    await bench.deliver(*[assigned(m, group) for m in members])
    replicas = [replica(sender), replica(sender)]

    async def work(one: Bench) -> None:
        while await one.dispatch():
            pass

    await asyncio.gather(*map(work, replicas))
    assert Counter(message.member_id for message in sender.sent) == Counter(members)
    assert await bench.database["notifications"].count_documents({"state": "sent"}) == 450


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
    one = replica(Scripted(Outcome(OutcomeClass.TRANSIENT, "throttled")))
    for tries in range(1, bench.settings.send_tries + 1):
        assert await one.dispatch() == 1
        n = await bench.welcome(member)
        assert len(n.attempts) == tries
        assert await one.dispatch() == 0  # not before its time
        bench.clock.advance(timedelta(hours=1))
    assert (n.state, n.reason) == (State.FAILED, "tries_exhausted")
    last = (await bench.events(n.id))[-1]
    assert last.data.model_dump()["error_class"] == "tries_exhausted"
    assert last.sequence == 2


async def test_a_permanent_failure_ends_it(bench: Bench, peers: Peers, replica: Replica):
    member, _ = await queued(bench, peers)
    await replica(Scripted(Outcome(OutcomeClass.PERMANENT, "not_on_whatsapp"))).dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.FAILED, "not_on_whatsapp")
    assert [e.type for e in await bench.events(n.id)] == ["notification.queued", "notification.failed"]


async def test_without_an_address_for_the_channel_it_is_suppressed(bench: Bench, peers: Peers):
    member, group = peers.add_member(email=None), peers.add_group()
    await bench.deliver(joined(member, channels=("email",)), assigned(member, group, ready=True))
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason, n.channel) == (State.SUPPRESSED, "no_address", "email")


async def test_an_e_mail_goes_to_the_e_mail_address(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
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


@pytest.mark.parametrize("missing", ["member", "link", "group"])
async def test_when_a_peer_does_not_know_what_we_heard_it_waits_for_the_news(
    bench: Bench, peers: Peers, missing: str
):
    member, group = await queued(bench, peers)
    if missing == "member":
        del peers.people[member]
    elif missing == "link":
        peers.add_group(group, link=None)
    else:
        del peers.groups[group]
    assert await bench.dispatch() == 1
    assert await bench.dispatch() == 0
    n = await bench.welcome(member)
    assert (n.state, n.attempts) == (State.QUEUED, ())
    peers.add_member(member)
    peers.add_group(group)
    bench.clock.advance(timedelta(seconds=31))
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_who_leaves_while_it_is_being_sent_is_not_tried_again(
    bench: Bench, peers: Peers, replica: Replica
):
    member, group = await queued(bench, peers)
    sender = Scripted(Outcome(OutcomeClass.TRANSIENT, "throttled"))
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
    sender = Scripted(Outcome(OutcomeClass.TRANSIENT, "throttled"), SENT)
    sender.gate = asyncio.Event()
    one = replica(sender)
    sending = asyncio.create_task(one.dispatch())
    await sender.reached.wait()
    await bench.deliver(moved(member, 2), removed(member, old, 2), assigned(member, new, 3))
    sender.gate.set()
    await sending
    bench.clock.advance(timedelta(hours=1))
    assert await one.dispatch() == 0
    assert (await bench.welcome(member)).held_for == "no_invite"
    await bench.deliver(invite(new, 1))
    await one.dispatch()
    assert (await bench.welcome(member)).state is State.SENT
    assert link_of(new) in sender.sent[-1].text


async def test_a_contact_is_asked_for_once_kept_sealed_and_dropped_when_it_changes(
    bench: Bench, peers: Peers, clock: ManualClock, replica: Replica
):
    member, _ = await queued(bench, peers)
    sender = Scripted(Outcome(OutcomeClass.TRANSIENT, "throttled"))
    one = replica(sender)
    for _ in range(2):
        await one.dispatch()
        clock.advance(timedelta(minutes=10))
    assert peers.asked("members") == [member]
    row = await bench.database["contacts"].find_one({"_id": member})
    assert row is not None
    assert b"9876543210" not in row["sealed"]

    peers.add_member(member, phone="+919123456780")
    await bench.deliver(updated(member, 2, contact_changed=True))
    assert await bench.database["contacts"].count_documents({"_id": member}) == 0
    await one.dispatch()
    assert sender.sent[-1].address == "+919123456780"
    clock.advance(timedelta(hours=2))
    await one.dispatch()
    assert peers.asked("members") == [member] * 3  # an hour is the longest it is used


async def test_a_contact_fetched_before_a_change_is_not_used_after_it(
    bench: Bench, peers: Peers, replica: Replica
):
    """The cache is filled after the change dropped it: the version tells."""
    member, _ = await queued(bench, peers)
    sender = Scripted(Outcome(OutcomeClass.TRANSIENT, "throttled"))
    sender.gate = asyncio.Event()
    one = replica(sender)
    sending = asyncio.create_task(one.dispatch())
    await sender.reached.wait()
    stale = await bench.database["contacts"].find_one({"_id": member})
    assert stale is not None
    peers.add_member(member, phone="+919123456780")
    await bench.deliver(updated(member, 2, contact_changed=True))
    await bench.database["contacts"].insert_one(stale)
    sender.gate.set()
    await sending
    bench.clock.advance(timedelta(minutes=1))
    await one.dispatch()
    assert sender.sent[-1].address == "+919123456780"


async def test_the_service_token_is_read_again_when_it_changes(
    bench: Bench, peers: Peers, settings: NotificationsSettings
):
    await queued(bench, peers)
    await bench.dispatch()
    peers.tokens.clear()
    settings.service_token_file.write_text("another-token")
    await queued(bench, peers)
    await bench.dispatch()
    assert peers.tokens == {"Bearer another-token"}


async def test_a_token_that_cannot_be_read_is_waited_for(
    bench: Bench, peers: Peers, settings: NotificationsSettings
):
    member, _ = await queued(bench, peers)
    settings.service_token_file.unlink()
    with pytest.raises(TransientError):
        await bench.dispatch()
    settings.service_token_file.write_text("back")
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT
