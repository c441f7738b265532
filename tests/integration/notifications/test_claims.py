"""Claims: one process at a time sends a notification, whichever dies, and replicas share the work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import ConnectionFailure

from services.notifications.core.domain import State
from services.notifications.sending.store import QueueStore
from tests.integration.notifications.conftest import (
    Bench,
    Replica,
    assigned,
    invite,
    joined,
)
from tests.integration.notifications.scripted import Scripted, queued
from tests.integration.notifications.stand_ins import Peers


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
    claim, batch, _ = await bench.queue.claim(bench.core.clock.now(), 60, 200)
    assert [n.member_id for n in batch] == [member]
    assert await bench.dispatch() == 0
    await bench.passes(timedelta(seconds=61))
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
        patched.setattr(bench.runtime.outbox, "transact", dies)
        with pytest.raises(ConnectionFailure):
            await bench.dispatch()
    n = await bench.welcome(member)
    assert n.state is State.SENDING
    before = await bench.database["recorded_messages"].find_one({"_id": n.id})
    assert before is not None
    await bench.passes(timedelta(seconds=61))
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
    await bench.passes(timedelta(seconds=61))
    await replica(quick).dispatch()
    slow.gate.set()
    await zombie
    n = await bench.welcome(member)
    assert (n.state, len(n.attempts), n.sequence) == (State.SENT, 1, 2)
    assert [e.sequence for e in await bench.events(n.id)] == [1, 2]


async def test_a_replica_that_comes_too_late_claims_nothing(bench: Bench, peers: Peers):
    """Both found the same notifications due; the other one stamped them first."""
    await queued(bench, peers)
    now = bench.core.clock.now()
    late = QueueStore(bench.database)
    late._notifications = Late(late._notifications, lambda: bench.queue.claim(now, 60, 200))  # type: ignore[assignment]
    _, batch, found = await late.claim(now, 60, 200)
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
