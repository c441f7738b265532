"""Versioned migrations of one service's database: collections, validators and indexes, once each, in order.

They run at start under a lock, so that several instances may start at once; every step must be safe to run
again, because a process can die between a step and its record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from services.shared.clock import Clock
from services.shared.eventkit.dead_letters import IN_ORDER, STATES
from services.shared.eventkit.inbox import RETENTION
from services.shared.eventkit.lease import Lease
from services.shared.http import idempotency
from services.shared.mongo import Database, Document

log = structlog.get_logger(__name__)

LOCK_SECONDS = 15.0


@dataclass(frozen=True)
class Migration:
    """One step; `version` numbers the steps of a service, or of the kernel, from 1 and never changes once released."""

    version: int
    name: str
    apply: Callable[[Database], Awaitable[None]]


async def migrate(database: Database, migrations: Sequence[Migration], clock: Clock) -> None:
    """Bring the database to the newest version, the kernel's collections first.

    Raises: `ValueError` when the versions are not 1, 2, 3, ...; `pymongo.errors.PyMongoError`.
    """
    if [m.version for m in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError("migrations must be numbered 1, 2, 3, ...")
    lock = Lease(database, "migrations", seconds=LOCK_SECONDS)
    while not await lock.hold():  # noqa: ASYNC110 (the lease is in MongoDB: nothing here could set an event)
        await asyncio.sleep(0.2)
    try:
        done = {row["_id"] async for row in database["migrations"].find({}, {"_id": 1})}
        for key, migration in steps(migrations).items():
            if key in done:
                continue
            await migration.apply(database)
            await lock.hold()
            await database["migrations"].update_one(
                {"_id": key}, {"$set": {"name": migration.name, "at": clock.now()}}, upsert=True
            )
            log.info("migration.applied", version=key, step=migration.name)
    finally:
        await lock.release()


def steps(migrations: Sequence[Migration]) -> dict[str, Migration]:
    """The kernel's and then the service's, by the key under which each is recorded."""
    kernel = {f"kernel-{m.version:04d}": m for m in KERNEL}
    return kernel | {f"{m.version:04d}": m for m in migrations}


async def create(
    database: Database, name: str, *, required: Document | None = None, indexes: Sequence[IndexModel] = ()
) -> None:
    """Create a collection with a `$jsonSchema` validator of its required fields (`{field: schema}`) and its indexes."""
    validator: Document = {}
    if required:
        validator = {
            "$jsonSchema": {"bsonType": "object", "required": list(required), "properties": required}
        }
    try:
        await database.create_collection(name, validator=validator)
    except CollectionInvalid:  # it exists: an earlier run died after this step
        await database.command("collMod", name, validator=validator)
    if indexes:
        await database[name].create_indexes(list(indexes))


async def _kernel(database: Database) -> None:
    seconds = int(RETENTION.total_seconds())
    await create(database, "inbox", indexes=[IndexModel("at", expireAfterSeconds=seconds)])
    await create(
        database,
        "outbox",
        required={"topic": {"bsonType": "string"}, "value": {"bsonType": "binData"}},
        indexes=[IndexModel("subject")],
    )
    await create(
        database,
        "dead_letters",
        required={"reason": {"bsonType": "string"}, "state": {"enum": list(STATES)}},
        indexes=[IndexModel([("state", 1), ("_id", 1)])],
    )
    await create(database, "fuses")
    await create(database, "leases")
    await create(database, "idempotency", indexes=[IndexModel(**idempotency.INDEX)])


async def _letters_in_order(database: Database) -> None:
    """The index of every listing, count and summary, and the one by which a replay finds what it must hold back."""
    in_order = [("state", 1), *IN_ORDER, ("type", 1), ("reason", 1), ("at", 1)]
    held = IndexModel([("headers.ce_subject", 1)], partialFilterExpression={"retried_at": {"$exists": True}})
    await database["dead_letters"].create_indexes([IndexModel(in_order), held])
    with contextlib.suppress(OperationFailure):  # it is gone: an earlier run died after this step
        await database["dead_letters"].drop_index("state_1__id_1")


async def _parts(database: Database) -> None:
    """Made before the first lock in it: a collection that a transaction makes is no other's yet, and its locks bar nobody."""
    await create(database, "parts")


KERNEL = (
    Migration(1, "kernel collections", _kernel),
    Migration(2, "dead letters in the order of the log", _letters_in_order),
    Migration(3, "locks of parts", _parts),
)
"""Recorded as `kernel-0001`, ...; a database from before they had numbers of their own (`0000`) runs the first again."""
