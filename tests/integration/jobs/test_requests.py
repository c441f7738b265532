"""Adding, listing, pausing, resuming and cancelling; what the collection itself promises."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from motor.motor_asyncio import AsyncIOMotorGridFSBucket
from pymongo.errors import EncryptionError, WriteError

from services.shared.encryption import OVERHEAD, Vault, create_key_collection
from services.shared.identity import Identity
from services.shared.jobs import Job, JobEndedError
from services.shared.jobs.claims import UNCLAIMED, Claims
from services.shared.jobs.inputs import BUCKET, PIECE_BYTES
from services.shared.messaging import UnitOfWork
from tests.integration.jobs.conftest import ANYBODY, Desk


async def test_adding_twice_is_adding_once(desk: Desk) -> None:
    job = await desk.jobs.add("count", {"to": 1}, ANYBODY, id="monday")
    assert await desk.jobs.add("count", {"to": 2}, ANYBODY, id="monday") == job
    assert await desk.jobs.rows.count_documents({}) == 1

    async def body(work: UnitOfWork) -> Job:
        return await desk.jobs.add("count", {"to": 3}, ANYBODY, id="monday", work=work)

    assert await desk.outbox.transact(body) == job


async def test_a_job_of_a_transaction_is_there_if_it_commits(desk: Desk) -> None:
    async def body(work: UnitOfWork, *, fail: bool) -> str:
        job = await desk.jobs.add("count", {"to": 1}, ANYBODY, work=work)
        if fail:
            raise ValueError
        return job.id

    with pytest.raises(ValueError):
        await desk.outbox.transact(lambda work: body(work, fail=True))
    assert not desk.jobs.added.is_set()
    assert await desk.jobs.rows.count_documents({}) == 0
    added = await desk.outbox.transact(lambda work: body(work, fail=False))
    assert desk.jobs.added.is_set()
    assert await desk.jobs.get(added)


async def test_a_job_is_read_as_it_was_added(desk: Desk) -> None:
    due = desk.clock.now() + timedelta(hours=1, microseconds=7)
    who = Identity("user-2", frozenset({"a:b", "c:d"}), "*")
    job = await desk.jobs.add("count", {"to": 1, "of": [None, 2.5]}, who, due_at=due)
    assert await desk.jobs.get(job.id) == job
    assert await desk.jobs.get("nobody") is None


async def test_pages_are_by_kind_state_and_subtree_the_newest_first(desk: Desk) -> None:
    units = ("BR-GAYA", "BR-GAYA-TEKARI", "BR-GAYAX", "BR", "*")
    jobs = [await desk.jobs.add("count", {}, Identity("u", frozenset(), unit)) for unit in units]
    other = await desk.jobs.add("other", {}, ANYBODY)
    await desk.jobs.pause(jobs[1].id)

    async def page(
        *, kind: str | None = None, root: str | None = None, after: str | None = None, limit: int = 9
    ) -> list[str]:
        found = await desk.jobs.page(kind=kind, state=None, root=root, after=after, limit=limit)
        return [job.id for job in found]

    everything = [other.id, *(job.id for job in reversed(jobs))]
    assert await page() == everything
    assert await page(after=everything[1], limit=2) == everything[2:4]
    assert await page(kind="other") == [other.id]
    assert await page(kind="count", root="BR-GAYA") == [jobs[1].id, jobs[0].id]
    [paused] = await desk.jobs.page(kind=None, state="paused", root=None, after=None, limit=9)
    assert paused.id == jobs[1].id


@pytest.mark.parametrize("end", ["cancelled", "failed", "succeeded"])
async def test_a_job_that_has_ended_cannot_be_changed(desk: Desk, end: str) -> None:
    job = await desk.add()
    await desk.jobs.rows.update_one({"_id": job.id}, {"$set": {"state": end}})
    changes: list[Callable[[str], Awaitable[Job | None]]] = [
        desk.jobs.pause,
        desk.jobs.resume,
        desk.jobs.cancel,
    ]
    for change in changes:
        with pytest.raises(JobEndedError) as raised:
            await change(job.id)
        assert raised.value.extra == {"state": end}
        assert await change("nobody") is None
    assert (await desk.job(job.id)).state == end


async def test_resuming_what_was_not_paused_changes_nothing(desk: Desk) -> None:
    job = await desk.add()
    assert await desk.jobs.resume(job.id) == job


async def test_a_job_paused_before_it_was_due_waits_for_its_time(desk: Desk) -> None:
    due = desk.clock.now() + timedelta(hours=1)
    job = await desk.jobs.add("count", {}, ANYBODY, due_at=due)
    await desk.jobs.pause(job.id)
    resumed = await desk.jobs.resume(job.id)
    assert resumed
    assert resumed.due_at == job.due_at
    late = await desk.add()
    await desk.jobs.pause(late.id)
    again = await desk.jobs.resume(late.id)
    assert again
    assert again.due_at > late.due_at


async def test_ended_jobs_are_removed_after_thirty_days(desk: Desk) -> None:
    [index] = [
        i for i in (await desk.jobs.rows.index_information()).values() if i["key"] == [("finished_at", 1)]
    ]
    assert index["expireAfterSeconds"] == 30 * 86400
    job = await desk.add()
    assert (await desk.jobs.rows.find_one({"_id": job.id}))["finished_at"] is None  # type: ignore[index]


async def test_a_claim_is_found_by_its_index(desk: Desk) -> None:
    due = {"state": {"$in": ["waiting", "running"]}, "kind": "count", "next_at": {"$lte": desk.clock.now()}}
    plan = await desk.jobs.rows.find(due | UNCLAIMED).sort("next_at", 1).explain()
    assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])
    assert "'SORT'" not in str(plan["queryPlanner"]["winningPlan"])


async def test_a_document_that_is_no_job_is_refused(desk: Desk) -> None:
    job = await desk.add()
    with pytest.raises(WriteError):
        await desk.jobs.rows.update_one({"_id": job.id}, {"$set": {"state": "odd"}})


async def test_a_big_input_is_read_on_from_an_offset_and_deleted_with_its_job(desk: Desk) -> None:
    content = bytes(range(256)) * 4096  # 1 MiB: five chunks
    assert await desk.jobs.inputs.store("import-1", pieces(content, 100_000)) == len(content)
    assert await desk.jobs.inputs.read("import-1", 300_001, 400_000) == content[300_001:700_001]
    assert await desk.jobs.inputs.read("import-1", len(content) - 3, 400_000) == content[-3:]
    assert await desk.jobs.inputs.read("import-1", len(content), 10) == b""
    await desk.jobs.add("count", {"to": 2}, ANYBODY, id="import-1")
    desk.start(desk.worker())
    await desk.until("import-1", "succeeded")
    await desk.halt()
    assert await kept(desk) == set()


async def test_a_sealed_input_is_read_from_any_offset_and_lies_nowhere_in_the_clear(desk: Desk) -> None:
    await create_key_collection(desk.db)
    vault = Vault(desk.client, desk.db, {"first": secrets.token_bytes(96)})
    content = b"Asha Devi,9812345678\n" * 20_000
    inputs = desk.jobs.inputs
    assert await inputs.store("import-1", pieces(content, 100_001), vault) == len(content)
    for offset, size in ((0, 10), (PIECE_BYTES - 5, 10), (PIECE_BYTES, PIECE_BYTES), (70_000, 200_000)):
        assert await inputs.read("import-1", offset, size, vault) == content[offset : offset + size]
    assert await inputs.read("import-1", len(content) - 3, 400_000, vault) == content[-3:]
    assert await inputs.read("import-1", len(content), 10, vault) == b""
    assert b"Asha" not in await inputs.read("import-1", 0, 1_000_000)

    raw = await inputs.read("import-1", 0, 1_000_000)
    sealed = PIECE_BYTES + OVERHEAD
    swapped = raw[sealed : 2 * sealed] + raw[:sealed] + raw[2 * sealed :]
    await inputs.delete("import-1")
    await inputs.store("import-1", pieces(swapped, 100_000))
    with pytest.raises(EncryptionError):
        await inputs.read("import-1", 0, 10, vault)
    await vault.close()


async def test_inputs_are_gridfs_files_as_the_driver_keeps_them(desk: Desk) -> None:
    """So that a process of the previous release, which left them to the driver, reads ours, and we its."""
    inputs, driver = desk.jobs.inputs, AsyncIOMotorGridFSBucket(desk.db, bucket_name=BUCKET)
    content = secrets.token_bytes(700_000)
    await inputs.store("ours", pieces(content, 100_001))
    assert await (await driver.open_download_stream("ours")).read() == content
    await driver.upload_from_stream_with_id("theirs", "theirs", content)
    assert await inputs.read("theirs", 300_001, 100_000) == content[300_001:400_001]
    for job_id in ("ours", "theirs"):
        await inputs.delete(job_id)
    assert await kept(desk) == set()


async def test_an_upload_that_fails_leaves_nothing(desk: Desk) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(600_000)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await desk.jobs.inputs.store("import-1", broken())
    assert await kept(desk) == set()


async def test_cancelling_deletes_the_input(desk: Desk) -> None:
    job = await desk.add()
    await desk.jobs.inputs.store(job.id, pieces(b"a,b", 2))
    await desk.jobs.cancel(job.id)
    assert await kept(desk) == set()


async def test_inputs_that_nobody_needs_are_swept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    live, ended, orphan = await desk.add(), await desk.add(), "orphan"
    for job_id in (live.id, ended.id, orphan, "cut-off", "empty"):
        await desk.jobs.inputs.store(job_id, pieces(b"" if job_id == "empty" else b"a,b", 2))
    await desk.db["job_inputs.files"].delete_one({"_id": "cut-off"})  # killed while it uploaded
    await desk.jobs.rows.update_one({"_id": ended.id}, {"$set": {"state": "failed"}})
    assert await desk.jobs.inputs.sweep() == 1
    assert await kept(desk) == {live.id, orphan, "cut-off", "empty"}
    tomorrow = desk.clock.now() + timedelta(days=1, minutes=1)
    monkeypatch.setattr(desk.clock, "now", lambda: tomorrow)
    assert await desk.jobs.inputs.sweep() == 3
    assert await kept(desk) == {live.id}


async def test_the_gauges_show_what_waits_and_what_is_stuck(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(name: str, **labels: str) -> float | None:
        return desk.registry.get_sample_value(f"sangathan_job{name}", {"kind": "count", **labels})

    for state in ("waiting", "running", "paused", "succeeded", "failed", "cancelled"):
        assert shown("s", state=state) == 0
    for outcome in ("committed", "retried", "failed", "lease_lost", "stopped"):
        assert shown("_steps_total", outcome=outcome) == 0
    assert shown("_step_seconds_count") == 0
    assert shown("s_unprogressed_seconds") == shown("s_progress_ratio") == 0

    first, _ = await desk.add(), await desk.add()
    await desk.jobs.add("count", {}, ANYBODY, due_at=desk.clock.now() + timedelta(hours=2))
    await desk.jobs.pause((await desk.add()).id)
    await desk.add(kind="newer")
    claim = await Claims(desk.jobs.rows, desk.clock, lease_seconds=60).take(["count"])
    assert claim
    assert claim.job.id == first.id
    progress = {"progress": {"done": 1, "total": 4}, "progressed_at": desk.clock.now() + timedelta(minutes=9)}
    await desk.jobs.rows.update_one({"_id": first.id}, {"$set": progress})
    later = desk.clock.now() + timedelta(minutes=10)
    monkeypatch.setattr(desk.clock, "now", lambda: later)
    await desk.gauges.count()
    assert (shown("s", state="waiting"), shown("s", state="running"), shown("s", state="paused")) == (2, 1, 1)
    assert shown("s_oldest_due_age_seconds") == pytest.approx(600, abs=5)
    assert shown("s_unprogressed_seconds") == pytest.approx(600, abs=5)
    assert shown("s_progress_ratio") == 0.25
    labels = {"kind": "other", "state": "waiting"}
    assert desk.registry.get_sample_value("sangathan_jobs", labels) == 1
    await desk.jobs.rows.delete_many({"state": "waiting"})
    await desk.gauges.count()
    assert shown("s_oldest_due_age_seconds") == 0
    assert shown("s_unprogressed_seconds") == pytest.approx(60, abs=5)


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for offset in range(0, len(content), size):
        yield content[offset : offset + size]


async def kept(desk: Desk) -> set[str]:
    chunks = await desk.db["job_inputs.chunks"].distinct("files_id")
    return {*chunks, *await desk.db["job_inputs.files"].distinct("_id")}
