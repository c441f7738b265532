"""Migrations of a service's database: they create collections, validators and indexes, once each, in order.

The owner of a collection (a package of the platform, a service's core, a feature) declares it in its own
migration. Migrations run at start under a lock, so several instances may start at once. Each must be safe to
repeat, because a process can die after a migration and before recording it.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid

from services.shared.clock import Clock
from services.shared.database.leases import Lease
from services.shared.database.mongo import Database, Document

log = structlog.get_logger(__name__)

LOCK_SECONDS: Final = 15.0
_ID: Final = re.compile(r"[a-z][a-z-]*-[0-9]{4}")


@dataclass(frozen=True)
class Migration:
    """One migration. `id` is `<owner>-<number>`, such as `tree-0001`; once released, it never changes."""

    id: str
    name: str
    apply: Callable[[Database], Awaitable[None]]


async def migrate(database: Database, migrations: Sequence[Migration], clock: Clock) -> None:
    """Apply the migrations that are not recorded yet, in the order given.

    Raises: `ValueError` for a duplicate or malformed id; `pymongo.errors.PyMongoError`.
    """
    check_ids(migrations)
    lock = Lease(database, "migrations", seconds=LOCK_SECONDS)
    while not await lock.hold():  # noqa: ASYNC110 (the lease is in MongoDB: nothing here could set an event)
        await asyncio.sleep(0.2)
    try:
        done = {row["_id"] async for row in database["migrations"].find({}, {"_id": 1})}
        for migration in migrations:
            if migration.id in done:
                continue
            await migration.apply(database)
            await lock.hold()
            await database["migrations"].update_one(
                {"_id": migration.id}, {"$set": {"name": migration.name, "at": clock.now()}}, upsert=True
            )
            log.info("migration.applied", migration=migration.id, step=migration.name)
    finally:
        await lock.release()


def check_ids(migrations: Sequence[Migration]) -> None:
    """Raises: `ValueError` for a duplicate or malformed id."""
    for id_, count in Counter(migration.id for migration in migrations).items():
        if count > 1 or not _ID.fullmatch(id_):
            raise ValueError(f"migration {id_!r}: ids are <owner>-<4 digits>, each used once")


async def _leases(database: Database) -> None:
    await create(database, "leases")


async def create(
    database: Database, name: str, *, required: Document | None = None, indexes: Sequence[IndexModel] = ()
) -> None:
    """Create a collection with its indexes and a `$jsonSchema` validator of its required fields, `{field:
    schema}`."""
    validator: Document = {}
    if required:
        validator = {
            "$jsonSchema": {"bsonType": "object", "required": list(required), "properties": required}
        }
    try:
        await database.create_collection(name, validator=validator)
    except CollectionInvalid:  # exists: from an earlier release, or from a run that died after this step
        await database.command("collMod", name, validator=validator)
    if indexes:
        await database[name].create_indexes(list(indexes))


MIGRATIONS: Final = (Migration("leases-0001", "leases", _leases),)
