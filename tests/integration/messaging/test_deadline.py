"""The deadline of a transaction, wherever it falls: the caller must get a transient fault, not a bug of the
driver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo.errors import InvalidOperation, OperationFailure

from services.shared.database import Session, connect, transact


@pytest.mark.parametrize("slow", ["insert", "commitTransaction", "abortTransaction"])
async def test_a_transaction_that_outlasts_its_deadline_is_a_timeout(mongo_uri, database_name, slow):
    client = connect(mongo_uri, app_name=database_name)
    things = client[database_name]["things"]
    await things.insert_one({})
    data = {"failCommands": [slow], "appName": database_name, "blockConnection": True, "blockTimeMS": 1000}

    async def body(session: Session) -> None:
        await things.insert_one({}, session=session)
        if slow == "abortTransaction":
            raise OperationFailure("as a write conflict would")

    await client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    try:
        with pytest.raises(TimeoutError):
            await transact(client, body, seconds=0.4)
    finally:
        await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        await asyncio.sleep(1)  # the driver's thread is still running
        client.close()


class Late:
    """A client whose driver answers a cancellation as motor does when its thread has just ended the
    transaction. That window is microseconds long, too short to hit with a real server."""

    async def start_session(self) -> Any:
        return self._session()

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        yield self

    async def with_transaction(self, body: Any, **_: Any) -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise InvalidOperation("Cannot call abortTransaction twice") from None


async def test_a_driver_that_ends_a_transaction_twice_is_a_timeout_too():
    with pytest.raises(TimeoutError):
        await transact(Late(), lambda session: asyncio.sleep(0), seconds=0.05)  # type: ignore[arg-type]
