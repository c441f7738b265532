"""The worker: each step once, in order, whatever happens to those who take it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import ConnectionFailure

from services.shared.clock import to_milliseconds
from services.shared.errors import PermanentError, TransientError
from services.shared.jobs import Advance, Effect, Job, JobKind, run, worker
from services.shared.jobs.claims import UNCLAIMED, ClaimLostError, Claims
from services.shared.loops import Pace
from services.shared.messaging import UnitOfWork
from tests.integration.jobs.conftest import Desk


class Gate:
    """Holds a step of a job at the number `at` until it is opened."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self, job: Job) -> None:
        if (job.cursor or 0) == self.at:
            self.reached.set()
            await self.opened.wait()


def failing(at: int, *errors: Exception) -> Callable[[Job], Awaitable[None]]:
    """Raises each of the errors once, at the number `at`."""
    left = list(errors)

    async def before(job: Job) -> None:
        if (job.cursor or 0) == at and left:
            raise left.pop(0)

    return before


async def test_a_job_runs_to_its_end_and_says_how_far_it_is(desk: Desk) -> None:
    added = await desk.add(to=5)
    assert (added.state, added.unit, added.requested_by.subject) == ("waiting", "BR-GAYA", "user-1")
    desk.start(desk.worker())
    job = await desk.until(added.id, "succeeded")
    assert (job.done, job.total, job.counts, job.result) == (5, 5, {"counted": 5}, {"last": 4})
    assert job.finished_at is not None
    assert (job.steps, job.attempts, job.cursor) == (5, 0, 5)
    assert await desk.numbers(job.id) == [0, 1, 2, 3, 4]
    await desk.halt()  # a step is counted after its commit
    assert desk.steps("committed") == 5


async def test_two_workers_do_each_step_of_each_job_once(desk: Desk) -> None:
    jobs = [await desk.add(to=8) for _ in range(20)]
    for _ in range(2):
        desk.start(desk.worker())
    for job in jobs:
        await desk.until(job.id, "succeeded")
        assert await desk.numbers(job.id) == list(range(8))


async def test_a_worker_whose_lease_ran_out_in_a_step_commits_nothing_though_nobody_has_the_job(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been frozen: neither the step nor the renewal beside it runs until the lease is over."""

    async def none(*_: Any) -> bool:
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr(Claims, "renew", none)
    gate, job = Gate(2), await desk.add(to=4)
    # One at a time, or it would itself claim the job anew.
    stop, task = desk.start(desk.worker(desk.counting(before=gate), lease_seconds=0.5, concurrency=1))
    await gate.reached.wait()
    await asyncio.sleep(0.6)
    assert await desk.jobs.rows.count_documents({"_id": job.id, **UNCLAIMED})
    stop.set()
    gate.opened.set()
    await task
    assert await desk.numbers(job.id) == [0, 1]
    assert desk.steps("lease_lost") == 1
    assert ((await desk.job(job.id)).state, (await desk.job(job.id)).cursor) == ("waiting", 2)
    desk.start(desk.worker())
    await desk.until(job.id, "succeeded")
    assert await desk.numbers(job.id) == [0, 1, 2, 3]


async def test_the_lease_of_a_long_step_is_renewed(desk: Desk) -> None:
    gate, job = Gate(1), await desk.add(to=3)
    desk.start(desk.worker(desk.counting(before=gate), lease_seconds=0.6))
    await gate.reached.wait()
    desk.start(desk.worker(desk.counting(), lease_seconds=0.6))
    await asyncio.sleep(1.5)
    assert await desk.numbers(job.id) == [0]
    gate.opened.set()
    await desk.until(job.id, "succeeded")
    assert await desk.numbers(job.id) == [0, 1, 2]
    assert desk.steps("lease_lost") == 0


async def test_a_lost_reply_to_a_commit_does_not_repeat_the_step(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact, lost = desk.outbox.transact, 0

    async def without_reply(body: Any) -> Any:
        nonlocal lost
        answer = await transact(body)
        if answer.steps == 2 and not lost:
            lost += 1
            raise ConnectionFailure
        return answer

    monkeypatch.setattr(desk.outbox, "transact", without_reply)
    job = await desk.add(to=4)
    desk.start(desk.worker())
    await desk.until(job.id, "succeeded")
    assert lost == 1
    assert await desk.numbers(job.id) == [0, 1, 2, 3]


async def test_a_paused_job_rests_and_goes_on_where_it_was(desk: Desk) -> None:
    gate, job = Gate(2), await desk.add(to=4)
    desk.start(desk.worker(desk.counting(before=gate), lease_seconds=60))
    await gate.reached.wait()
    paused = await desk.jobs.pause(job.id)
    assert paused
    assert (paused.state, paused.done) == ("paused", 2)
    assert await desk.jobs.pause(job.id) == paused
    gate.opened.set()
    await asyncio.sleep(0.4)
    assert await desk.job(job.id) == paused
    assert await desk.numbers(job.id) == [0, 1]
    assert desk.steps("stopped") == 1
    resumed = await desk.jobs.resume(job.id)
    assert resumed
    assert resumed.state in ("waiting", "running")
    await desk.until(job.id, "succeeded")
    assert await desk.numbers(job.id) == [0, 1, 2, 3]


async def test_a_step_begun_before_a_pause_is_lost_even_when_the_job_was_resumed_meanwhile(
    desk: Desk,
) -> None:
    gate, job = Gate(2), await desk.add(to=4)
    stop, first = desk.start(desk.worker(desk.counting(before=gate)))
    await gate.reached.wait()
    await desk.jobs.pause(job.id)
    stop.set()
    await desk.jobs.resume(job.id)
    desk.start(desk.worker())
    await desk.until(job.id, "succeeded")
    gate.opened.set()
    await first
    assert await desk.numbers(job.id) == [0, 1, 2, 3]


async def test_a_cancelled_job_stops_within_a_step(desk: Desk) -> None:
    gate, job = Gate(2), await desk.add(to=4)
    desk.start(desk.worker(desk.counting(before=gate)))
    await gate.reached.wait()
    cancelled = await desk.jobs.cancel(job.id)
    assert cancelled
    assert (cancelled.state, cancelled.done) == ("cancelled", 2)
    gate.opened.set()
    await asyncio.sleep(0.3)
    assert await desk.job(job.id) == cancelled
    assert await desk.numbers(job.id) == [0, 1]


async def test_a_poisoned_job_fails_alone_and_says_why(desk: Desk) -> None:
    poisoned = await desk.add(to=5)

    async def before(job: Job) -> None:
        if job.id == poisoned.id and job.cursor == 3:
            raise PermanentError("bad_row", "row 3")

    others = [await desk.add(to=3) for _ in range(3)]
    desk.start(desk.worker(desk.counting(before=before), concurrency=1))
    failed = await desk.until(poisoned.id, "failed")
    assert (failed.reason, failed.detail, failed.done) == ("bad_row", "row 3", 3)
    assert await desk.numbers(poisoned.id) == [0, 1, 2]
    for job in others:
        await desk.until(job.id, "succeeded")


async def test_a_failure_quotes_no_data(desk: Desk) -> None:
    job = await desk.add()
    desk.start(desk.worker(desk.counting(before=failing(0, ValueError("+919812345678")))))
    failed = await desk.until(job.id, "failed")
    assert (failed.reason, failed.detail) == ("handler_error", "ValueError")


async def test_a_fault_that_passes_is_retried_under_the_same_claim(desk: Desk) -> None:
    job = await desk.add(to=3)
    errors = (TransientError(), TimeoutError(), ConnectionFailure())
    desk.start(desk.worker(desk.counting(before=failing(1, *errors))))
    done = await desk.until(job.id, "succeeded")
    assert await desk.numbers(job.id) == [0, 1, 2]
    assert done.attempts == 0
    assert (desk.steps("retried"), desk.steps("failed")) == (3, 0)


async def test_a_job_that_meets_one_fault_after_another_makes_room(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PUT_OFF", timedelta(seconds=1))
    monkeypatch.setattr(run, "PATIENCE", 3)
    failing_one = await desk.add(to=2)
    errors = [TransientError() for _ in range(run.PATIENCE + 2)]
    fail = failing(1, *errors)

    async def before(job: Job) -> None:
        if job.id == failing_one.id:
            await fail(job)

    other = await desk.add(to=2)
    desk.start(desk.worker(desk.counting(before=before), concurrency=1))
    await desk.until(other.id, "succeeded")
    put_off = await desk.job(failing_one.id)
    assert (put_off.state, put_off.done, put_off.attempts) == ("waiting", 1, 0)
    assert put_off.next_at > put_off.due_at == failing_one.due_at
    await desk.until(failing_one.id, "succeeded")
    assert await desk.numbers(failing_one.id) == [0, 1]


async def test_long_jobs_take_turns(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TURN_SECONDS", 0.1)

    async def slowly(_: Job) -> None:
        await asyncio.sleep(0.03)

    long, short = await desk.add(to=60), await desk.add(to=1)
    desk.start(desk.worker(desk.counting(before=slowly), concurrency=1))
    await desk.until(short.id, "succeeded")
    assert (await desk.job(long.id)).done < 30
    await desk.until(long.id, "succeeded")
    assert await desk.numbers(long.id) == list(range(60))


async def test_an_effect_is_undone_with_its_step(desk: Desk) -> None:
    async def step(job: Job) -> Effect:
        async def effect(work: UnitOfWork) -> Advance:
            await desk.effects.insert_one({"job": job.id, "n": 0}, session=work.session)
            raise PermanentError("too_bad")

        return effect

    job = await desk.add(kind="odd")
    desk.start(desk.worker(JobKind("odd", step)))
    await desk.until(job.id, "failed")
    assert await desk.numbers(job.id) == []


async def test_a_job_at_which_ten_processes_died_fails(desk: Desk) -> None:
    job = await desk.add()
    claims = Claims(desk.jobs.rows, desk.clock, lease_seconds=0)
    for _ in range(run.MAX_ATTEMPTS):
        assert await claims.take(["count"])
        await asyncio.sleep(0.002)
    desk.start(desk.worker())
    failed = await desk.until(job.id, "failed")
    assert failed.reason == "no_progress"
    assert await desk.numbers(job.id) == []


async def test_giving_a_job_back_is_no_attempt(desk: Desk) -> None:
    job = await desk.add()
    claims = Claims(desk.jobs.rows, desk.clock, lease_seconds=10)
    for _ in range(2 * run.MAX_ATTEMPTS):
        claim = await claims.take(["count"])
        assert claim
        await claims.give_back(claim)
    assert ((await desk.job(job.id)).state, (await desk.job(job.id)).attempts) == ("waiting", 0)


async def test_an_order_to_stop_lets_the_step_in_hand_finish_and_gives_the_job_back_at_once(
    desk: Desk,
) -> None:
    gate, job = Gate(1), await desk.add(to=3)
    stop, task = desk.start(desk.worker(desk.counting(before=gate), lease_seconds=60))
    await gate.reached.wait()
    stop.set()
    gate.opened.set()
    await task
    resting = await desk.job(job.id)
    assert (resting.state, resting.cursor) == ("waiting", 2)
    assert await desk.numbers(job.id) == [0, 1]
    desk.start(desk.worker())
    await desk.until(job.id, "succeeded", seconds=5)
    assert await desk.numbers(job.id) == [0, 1, 2]


async def test_a_cancelled_worker_gives_its_jobs_back_too(desk: Desk) -> None:
    gate, job = Gate(1), await desk.add(to=3)
    _, task = desk.start(desk.worker(desk.counting(before=gate), lease_seconds=60))
    await gate.reached.wait()
    task.cancel()
    await asyncio.wait({task})
    assert (await desk.job(job.id)).state == "waiting"


async def test_a_kind_of_another_release_is_left_to_it(desk: Desk) -> None:
    theirs, ours = await desk.add(kind="newer"), await desk.add()
    desk.start(desk.worker())
    await desk.until(ours.id, "succeeded")
    await asyncio.sleep(0.2)
    assert ((await desk.job(theirs.id)).state, (await desk.job(theirs.id)).attempts) == ("waiting", 0)


async def test_a_job_waits_until_it_is_due_and_the_oldest_is_first(desk: Desk) -> None:
    now = desk.clock.now()
    later = await desk.jobs.add(
        "count", {"to": 1}, (await desk.add(to=1)).requested_by, due_at=now + timedelta(seconds=2)
    )
    early = await desk.jobs.add("count", {"to": 1}, later.requested_by, due_at=now - timedelta(hours=1))
    claim = await Claims(desk.jobs.rows, desk.clock, lease_seconds=0).take(["count"])
    assert claim
    assert claim.job.id == early.id
    desk.start(desk.worker())
    await desk.until(early.id, "succeeded")
    assert (await desk.job(later.id)).state == "waiting"
    done = await desk.until(later.id, "succeeded")
    assert done.finished_at
    assert done.finished_at >= later.due_at


async def test_a_job_that_rests_leaves_its_worker_to_others_and_counts_as_no_stalled_one(desk: Desk) -> None:
    until = desk.clock.now() + timedelta(seconds=1.5)

    async def step(job: Job) -> Effect:
        async def effect(_: UnitOfWork) -> Advance:
            if job.steps == 0:
                return Advance("on", 1, rest_until=until)
            return Advance(finished=True, result=job.cursor)

        return effect

    resting = await desk.add(kind="resting")
    desk.start(desk.worker(desk.counting(), JobKind("resting", step), concurrency=1))
    other = await desk.add()
    assert (await desk.until(other.id, "succeeded")).finished_at
    now = await desk.job(resting.id)
    assert (now.state, now.steps, now.rests_until) == ("waiting", 1, to_milliseconds(until))
    await desk.gauges.count()
    labels = {"kind": "other"}
    assert desk.registry.get_sample_value("sangathan_jobs_unprogressed_seconds", labels) == 0
    done = await desk.until(resting.id, "succeeded")
    assert done.result == "on"
    assert done.finished_at
    assert done.finished_at >= until


async def test_no_step_begins_while_the_outbox_is_full(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MAX_OUTBOX_ROWS", 3)
    monkeypatch.setattr(run, "OUTBOX_SECONDS", 0.05)
    rows = [{"_id": str(n), "topic": "t", "value": b""} for n in range(4)]
    await desk.outbox.rows.insert_many(rows)
    job = await desk.add(to=2)
    desk.start(desk.worker(lease_seconds=0.5))
    await asyncio.sleep(1.2)
    waiting = await desk.job(job.id)
    assert (waiting.state, waiting.done, waiting.attempts) == ("running", 0, 1)
    await desk.outbox.rows.delete_one({"_id": "0"})
    await desk.until(job.id, "succeeded")


async def test_a_job_locked_by_a_dead_process_holds_up_no_other(desk: Desk) -> None:
    """Killed between its last write and its commit, a process leaves the job's document locked."""
    locked, other = await desk.add(), await desk.add(to=2)
    async with await desk.client.start_session() as session, session.start_transaction():
        await desk.jobs.rows.update_one({"_id": locked.id}, {"$set": {"attempts": 1}}, session=session)
        desk.start(desk.worker())
        await desk.until(other.id, "succeeded", seconds=5)
        await session.abort_transaction()
    await desk.until(locked.id, "succeeded")


async def test_a_job_added_here_wakes_an_idle_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PACE", Pace.every(30))
    desk.start(desk.worker())
    await asyncio.sleep(0.1)
    for _ in range(3):
        await desk.until((await desk.add(to=1)).id, "succeeded", seconds=3)


async def test_texts_that_look_like_expressions_are_kept_as_they_are(desk: Desk) -> None:
    async def step(job: Job) -> Effect:
        async def effect(work: UnitOfWork) -> Advance:
            return Advance({"at": "$input"}, counts={"$x": 1}, finished=True, result={"$set": "$kind"})

        return effect

    job = await desk.add(kind="odd")
    desk.start(desk.worker(JobKind("odd", step)))
    done = await desk.until(job.id, "succeeded")
    assert (done.cursor, done.counts, done.result) == ({"at": "$input"}, {"$x": 1}, {"$set": "$kind"})


async def test_a_claim_that_another_has_taken_over_can_do_nothing_to_the_job(desk: Desk) -> None:
    """Neither has made a step yet, and the job is running under a lease that is not over: only the token
    differs."""
    await desk.add()
    frozen = await Claims(desk.jobs.rows, desk.clock, lease_seconds=0).take(["count"])
    await asyncio.sleep(0.01)
    claims = Claims(desk.jobs.rows, desk.clock, lease_seconds=10)
    taken_over = await claims.take(["count"])
    assert frozen
    assert taken_over
    before = await desk.jobs.rows.find_one({})

    async def body(work: UnitOfWork) -> Job:
        await desk.effects.insert_one({"job": frozen.job.id, "n": 0}, session=work.session)
        return await claims.advance(frozen, Advance(1, 1), work.session)

    with pytest.raises(ClaimLostError):
        await desk.outbox.transact(body)
    with pytest.raises(ClaimLostError):
        await claims.fail(frozen, "poison", "")
    assert not await claims.renew(frozen)
    await claims.give_back(frozen)
    assert await desk.jobs.rows.find_one({}) == before
    assert await desk.numbers(frozen.job.id) == []
    assert await claims.renew(taken_over)


async def test_a_claim_that_is_lost_cannot_fail_the_job(desk: Desk) -> None:
    job = await desk.add()
    claims = Claims(desk.jobs.rows, desk.clock, lease_seconds=10)
    claim = await claims.take(["count"])
    assert claim
    await desk.jobs.pause(job.id)
    with pytest.raises(ClaimLostError):
        await claims.fail(claim, "poison", "")
    assert not await claims.renew(claim)
    await claims.give_back(claim)
    assert (await desk.job(job.id)).state == "paused"
