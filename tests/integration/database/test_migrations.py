from __future__ import annotations

import asyncio

import pytest
from pymongo import IndexModel
from pymongo.errors import WriteError

from services.shared.clock import SystemClock
from services.shared.database import Database, Migration, connect, create, database, migrate


@pytest.fixture
async def db(mongo_uri: str, database_name: str):
    client = connect(mongo_uri, app_name="tests")
    yield database(client, database_name)
    await client.drop_database(database_name)
    client.close()


async def test_each_step_runs_once_although_many_instances_start_together(db: Database) -> None:
    ran: list[str] = []

    def step(version: int) -> Migration:
        async def apply(_: Database) -> None:
            ran.append(f"step {version}")
            await asyncio.sleep(0.05)

        return Migration(f"test-{version:04d}", f"step {version}", apply)

    steps = (step(1), step(2))
    await asyncio.gather(*(migrate(db, steps, SystemClock()) for _ in range(4)))
    assert ran == ["step 1", "step 2"]
    await migrate(db, (*steps, step(3)), SystemClock())
    assert ran == ["step 1", "step 2", "step 3"]


async def test_a_step_that_died_before_its_record_runs_again(db: Database) -> None:
    failures = 1

    async def apply(database: Database) -> None:
        nonlocal failures
        await create(
            database,
            "things",
            required={"size": {"bsonType": "int"}},
            indexes=[IndexModel("size", unique=True)],
        )
        if failures:
            failures -= 1
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        await migrate(db, (Migration("test-0001", "things", apply),), SystemClock())
    await migrate(db, (Migration("test-0001", "things", apply),), SystemClock())
    assert "size_1" in await db["things"].index_information()
    with pytest.raises(WriteError):
        await db["things"].insert_one({"size": "large"})


@pytest.mark.parametrize("ids", [["test-0001", "test-0001"], ["0001"], ["test-1"], ["Test-0001"]])
async def test_ids_name_their_owner_and_are_used_once(db: Database, ids: list[str]) -> None:
    async def nothing(_: Database) -> None: ...

    with pytest.raises(ValueError, match="ids are <owner>-<4 digits>"):
        await migrate(db, [Migration(id_, "a step", nothing) for id_ in ids], SystemClock())
