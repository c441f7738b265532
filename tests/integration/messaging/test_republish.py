"""Republish: in order, in batches, yielding to the relay, and resumable where it was interrupted."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from services.shared.contracts.members import MemberSnapshot
from services.shared.contracts.vocabulary import Gender
from services.shared.database import Document
from services.shared.operations.republish import Republish
from services.shared.runtime import Source
from tests.integration.messaging.conftest import Bench, on_the_real_things_alone

pytestmark = on_the_real_things_alone
IDS = [f"00000000-0000-7000-8000-{n:012d}" for n in range(20)]


def said(row: Document) -> tuple[MemberSnapshot, int]:
    assert row.keys() == {"_id", "unit", "version"}, "nothing else is read"
    snapshot = MemberSnapshot(
        member_id=row["_id"],
        unit=row["unit"],
        gender=Gender.FEMALE,
        language="hi",
        joined_at=datetime(2026, 11, 23, tzinfo=UTC),
        status="active",
    )
    return snapshot, row["version"]


SOURCE = Source("people", "unit", ("unit", "version"), said)


async def people(bench: Bench) -> None:
    await bench.db["people"].insert_many(
        [{"_id": id_, "unit": "BR", "version": n + 1, "name": "Asha"} for n, id_ in enumerate(IDS)]
    )


def republish(bench: Bench, **options: object) -> Republish:
    return Republish(
        bench.db,
        bench.outbox,
        [SOURCE],
        Console(file=io.StringIO()),
        batch=4,
        **options,  # type: ignore[arg-type]
    )


async def staged(bench: Bench) -> list[tuple[str, int]]:
    rows = bench.outbox.rows.find({}).sort("_id", 1)
    return [(row["subject"], row["sequence"]) async for row in rows]


async def test_republish_waits_while_the_outbox_is_full_and_resumes_where_it_stopped(bench: Bench) -> None:
    await people(bench)
    work = republish(bench, most_waiting=6)
    running = asyncio.create_task(work.run())
    await asyncio.sleep(1.5)
    assert [subject for subject, _ in await staged(bench)] == IDS[:8], "two batches, and then no more"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.reached == f"people:{IDS[7]}"

    rest = republish(bench, after=work.reached)
    assert await rest.count() == {"people": 12}
    assert await rest.run() == {"member.snapshot": 12}
    assert await staged(bench) == [(id_, n + 1) for n, id_ in enumerate(IDS)]


async def test_an_unknown_position_to_resume_from_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError):
        republish(bench, after="elsewhere:m07")
