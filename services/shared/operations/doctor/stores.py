"""Facts collected from MongoDB, about itself and the services' databases. Reads no members' data."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pymongo.errors import OperationFailure, PyMongoError

from services.shared.clock import Clock
from services.shared.database import Client, Database, connect, database, oplog_window
from services.shared.database.mongo import Oplog
from services.shared.operations.doctor import expected as expecting
from services.shared.operations.doctor.access import Access
from services.shared.operations.doctor.checks_stores import OPLOG_SECONDS
from services.shared.operations.doctor.expected import Expected
from services.shared.operations.doctor.facts import Keyring, Member, Store, Stored
from services.shared.operations.doctor.findings import Seen, Unseen, Verdict

T = TypeVar("T")

YOUNG_SECONDS = 3600.0
KEYS, CONTENT_KEYS = "keys", "content_keys"
_RIGHTS = "grant this user the roles clusterMonitor, and read on the services' databases"


async def look(access: Access, expected: Expected, clock: Clock) -> Seen[Store]:
    if not access.mongo:
        return Unseen(
            "no address of MongoDB",
            "give SANGATHAN_MONGO_URI (there is no option, because it holds a password)",
            Verdict.SKIPPED,
        )
    try:
        client = connect(access.mongo, app_name="sangathan-doctor")
    except (PyMongoError, ValueError) as error:
        return Unseen(f"MongoDB: {type(error).__name__}", "fix SANGATHAN_MONGO_URI")
    try:
        before = clock.now()
        hello = await client.admin.command("hello")
        theirs = hello["localTime"].replace(tzinfo=UTC)
        return Store(
            skew=_skew(theirs, before, clock.now()),
            members=await _seen("the state of the replica set", _members(client)),
            oplog_seconds=await _oplog(client),
            databases={
                name: await _seen(
                    f"the database of {name}", _stored(database(client, access.databases.get(name, name)))
                )
                for name in expected.services
            },
        )
    except PyMongoError as error:
        why = f"MongoDB does not answer: {type(error).__name__}"
        return Unseen(why, "start it, or fix SANGATHAN_MONGO_URI", Verdict.WRONG)
    finally:
        client.close()


async def _seen(what: str, reading: Awaitable[T]) -> Seen[T]:
    try:
        return await reading
    except OperationFailure as error:
        said = error.details or {}
        return Unseen(f"{what}: {said.get('codeName', type(error).__name__)}", _RIGHTS)


def _skew(theirs: datetime, before: datetime, after: datetime) -> float:
    """Least number of seconds that MongoDB's clock is ahead: it was read between `before` and `after`."""
    if theirs > after:
        return (theirs - after).total_seconds()
    return min(0.0, (theirs - before).total_seconds())


async def _members(client: Client) -> Sequence[Member]:
    status = await client.admin.command("replSetGetStatus")
    primary = next((m["optimeDate"] for m in status["members"] if m["stateStr"] == "PRIMARY"), None)
    return [
        Member(
            m["name"],
            m["stateStr"],
            (primary - m["optimeDate"]).total_seconds() if primary and "optimeDate" in m else None,
        )
        for m in status["members"]
    ]


async def _oplog(client: Client) -> Seen[float]:
    found = await oplog_window(client)
    return judged(found) if found else Unseen("the oplog: Unauthorized", _RIGHTS)


def judged(oplog: Oplog) -> Seen[float]:
    """The oplog's window. A short window of a young oplog is not judged: a burst of writes in its first
    minutes says nothing about a day."""
    if oplog.held < YOUNG_SECONDS and oplog.window < OPLOG_SECONDS:
        why = f"the oplog holds only {oplog.held / 60:.0f} min so far, too little to know its pace"
        return Unseen(why, "check again when it holds an hour", Verdict.SKIPPED)
    return oplog.window


async def _stored(base: Database) -> Stored:
    names = await base.list_collection_names()
    return Stored(
        name=base.name,
        collections=names,
        indexes={name: await _indexes(base, name) for name in names if not name.startswith("system.")},
        migrations=[row["_id"] async for row in base["migrations"].find({}, {"_id": 1})],
        keyring=await _keyring(base) if KEYS in names else None,
    )


async def _indexes(base: Database, name: str) -> list[dict[str, Any]]:
    return [expecting.index(each) async for each in base[name].list_indexes()]


async def _keyring(base: Database) -> Keyring:
    keys = {row["_id"]: row["creationDate"] async for row in base[KEYS].find({}, {"creationDate": 1})}
    sealed = [row["_id"] async for row in base[CONTENT_KEYS].find({}, {"_id": 1})]
    return Keyring(max(keys.values(), default=None), sum(id_ not in keys for id_ in sealed))
