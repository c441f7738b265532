"""Due times and claims are by MongoDB's clock: replicas with wrong clocks send once, and in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.notifications.core.domain import OutcomeClass, SendOutcome, State
from services.shared.clock import ManualClock
from tests.integration.notifications.conftest import Bench, Replica
from tests.integration.notifications.scripted import Scripted, queued
from tests.integration.notifications.stand_ins import Peers


def off_by(seconds: float) -> ManualClock:
    """The clock of a process that is ahead by so much."""
    return ManualClock(datetime.now(UTC) + timedelta(seconds=seconds))


async def soon(replica: Bench) -> None:
    """Two processes agree to within a round trip."""
    async with asyncio.timeout(2):
        while await replica.dispatch() == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("ahead", [61, 3600, -61])
async def test_a_replica_whose_clock_is_wrong_does_not_take_over_a_running_claim(
    bench: Bench, peers: Peers, replica: Replica, ahead: float
):
    member, _ = await queued(bench, peers)
    slow, other = Scripted(), Scripted()
    slow.gate = asyncio.Event()
    first, second = (slow, other) if ahead > 0 else (other, slow)
    # The one that is behind claims first: its claim must not end early by the clock of the other.
    sending = asyncio.create_task(replica(slow, off_by(min(0, ahead))).dispatch())
    await slow.reached.wait()
    assert await replica(other, off_by(max(0, ahead))).dispatch() == 0
    slow.gate.set()
    await sending
    assert [len(first.sent), len(second.sent)] == ([1, 0] if ahead > 0 else [0, 1])
    assert (await bench.welcome(member)).state is State.SENT


async def test_even_one_that_believes_in_another_time_claims_nothing_before_it_is_due(
    bench: Bench, peers: Peers
):
    """The update itself compares with `$$NOW`: a new primary may have another time than the old one."""
    await queued(bench, peers)
    claim, batch, _ = await bench.queue.claim(bench.core.clock.now(), 60, 200)
    assert len(batch) == 1
    later = bench.core.clock.now() + timedelta(seconds=61)
    _, taken, found = await bench.queue.claim(later, 60, 200)
    assert (taken, found) == ([], 1)
    row = await bench.database["notifications"].find_one({})
    assert row is not None
    assert row["claim"] == claim


@pytest.mark.parametrize("ahead", [600, -600])
async def test_what_a_process_with_a_wrong_clock_queues_is_due_at_once(
    bench: Bench, peers: Peers, replica: Replica, ahead: float
):
    member, _ = await queued(replica(Scripted(), off_by(ahead)), peers)
    await soon(bench)
    assert (await bench.welcome(member)).state is State.SENT


@pytest.mark.parametrize("ahead", [600, -600])
async def test_a_pause_is_as_long_as_it_should_be(bench: Bench, peers: Peers, replica: Replica, ahead: float):
    member, _ = await queued(bench, peers)
    sender = Scripted(SendOutcome(OutcomeClass.TRANSIENT, "throttled"))
    await replica(sender, off_by(ahead)).dispatch()
    due = (await bench.welcome(member)).due_at
    assert due is not None
    pause = (due - bench.core.clock.now()).total_seconds()
    shortest = bench.settings.send_retry_seconds
    assert shortest - 5 < pause <= shortest * (1 + bench.core.policy.spread)


async def test_a_clock_that_is_set_while_the_process_runs_delays_nothing(
    bench: Bench, peers: Peers, replica: Replica
):
    clock = off_by(0)
    one = replica(Scripted(), clock)
    await queued(one, peers)
    clock.advance(timedelta(seconds=-600))
    assert await one.dispatch() == 1
    clock.advance(timedelta(seconds=1200))
    await queued(one, peers)
    await soon(bench)
