"""MongoDB access: the only module that imports motor.

motor's vendor has moved on to PyMongo's own async API; replacing motor will change only this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from bson.codec_options import CodecOptions
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import MongoClient
from pymongo.errors import InvalidOperation, OperationFailure, PyMongoError
from pymongo.monitoring import ConnectionPoolListener
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

Document: TypeAlias = dict[str, Any]
Client: TypeAlias = "AsyncIOMotorClient[Document]"
Database: TypeAlias = "AsyncIOMotorDatabase[Document]"
Collection: TypeAlias = "AsyncIOMotorCollection[Document]"
Session: TypeAlias = AsyncIOMotorClientSession
T = TypeVar("T")

TRANSACTION_SECONDS = 8.0
"""Deadline of a transaction. `with_transaction` has its own of 120 s, which outlasts any request."""

UNAUTHORIZED_CODE = 13


def connect(uri: str, *, app_name: str, listeners: Sequence[ConnectionPoolListener] = ()) -> Client:
    """A client whose writes wait for a majority and whose dates are in UTC.

    Does not connect: the first operation reports an unreachable server.
    """
    return AsyncIOMotorClient(
        uri,
        tz_aware=True,
        appname=app_name,
        w="majority",
        serverSelectionTimeoutMS=5000,
        retryWrites=True,
        event_listeners=list(listeners),
    )


def database(client: Client, name: str) -> Database:
    return client.get_database(
        name,
        codec_options=CodecOptions(document_class=dict, tz_aware=True),
        write_concern=WriteConcern(w="majority"),
    )


def blocking(client: Client) -> MongoClient[Document]:
    """The synchronous client inside, which shares the connections: libmongocrypt reads its keys from a
    thread."""
    inside: MongoClient[Document] = client.delegate
    return inside


def in_snapshot(collection: Collection) -> Collection:
    """The same collection, read at one majority-committed instant (MongoDB >= 5.0; works outside transactions
    too)."""
    return collection.with_options(read_concern=ReadConcern("snapshot"))


async def transact(
    client: Client, body: Callable[[Session], Coroutine[Any, Any, T]], *, seconds: float = TRANSACTION_SECONDS
) -> T:
    """Run `body` in one transaction, and repeat it when MongoDB reports that a retry is safe.

    `body` may run several times and must keep no state between runs.

    Raises: any error of `body`, after aborting the transaction; `TimeoutError` after `seconds`.
    """
    async with asyncio.timeout(seconds) as deadline, await client.start_session() as session:
        try:
            result: T = await session.with_transaction(
                body, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern(w="majority")
            )
        except InvalidOperation as error:
            # The deadline expired during an abort: motor, cancelled, aborts again a transaction that its
            # thread has aborted.
            if deadline.expired():
                raise TimeoutError from error
            raise
        return result


async def commits_within(client: Client, database: Database, seconds: float) -> bool:
    """Whether the database commits a small transaction within `seconds`: tells a slow transaction from a slow
    database."""
    probes = database["leases"]  # it exists in every database, and creating one would take longer

    async def touch(session: Session) -> None:
        await probes.replace_one({"_id": "probe"}, {"_id": "probe"}, upsert=True, session=session)

    try:
        await transact(client, touch, seconds=seconds)
    except (PyMongoError, TimeoutError):
        return False
    return True


class Oplog(NamedTuple):
    """`window`: seconds of history that the oplog will hold once full, at its recent pace; `held`: seconds
    held so far."""

    replica_set: str
    window: float
    held: float


async def oplog_window(client: Client) -> Oplog | None:
    """How far back the replica set's oplog reaches; None when this user may not read it.

    A secondary that is away for longer must copy all data again. A young oplog is short whatever its pace, so
    `window` extrapolates.

    Raises: `pymongo.errors.PyMongoError`.
    """
    local = client.get_database("local")
    try:
        name = (await client.admin.command("hello"))["setName"]
        stats = await local.command("collStats", "oplog.rs")
        ends = [await local["oplog.rs"].find_one({}, {"ts": 1}, sort=[("$natural", way)]) for way in (1, -1)]
    except OperationFailure as error:
        if error.code == UNAUTHORIZED_CODE:
            return None
        raise
    first, last = (row["ts"].time if row else 0 for row in ends)
    share: float = max(1.0, stats.get("maxSize", 0) / max(1, stats["size"]))
    return Oplog(name, window=(last - first) * share, held=last - first)
