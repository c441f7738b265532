"""Dump and restore: a service's database at one instant, with its consumers' offsets just before that
instant.

The offsets are read first. So every record before them is in the dump, and the inbox in the dump has the ids
of any applied after them. A restored database is therefore only behind the log, and `rebuild --resume` brings
it up to date.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast

from bson import decode_file_iter, json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pydantic import BaseModel, ValidationError
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.write_concern import WriteConcern
from rich.console import Console

from services.shared.clock import SystemClock
from services.shared.config.settings import ServiceSettings
from services.shared.contracts.catalogue import EVENTS
from services.shared.jobs import LIVE
from services.shared.messaging import Partition
from services.shared.operations.progress import Meter
from services.shared.operations.rebuild import DUMP, restore_group
from services.shared.runtime import broker_of

Mongo: TypeAlias = "Database[dict[str, Any]]"
Offsets: TypeAlias = dict[str, int]
"""`<topic>:<partition>` -> the next offset."""

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
BATCH: Final = 1000
PASSING: Final = ("leases", "rebuild")
"""Collections not dumped: they hold the leases and rebuilds in progress, which mean nothing in another
database."""
_RAW: Final = CodecOptions(document_class=RawBSONDocument)


class BackupError(Exception):
    """The dump cannot be taken or restored; the message gives the reason."""


class Stored(BaseModel):
    """One dumped collection. `sha256` is that of the file; `options` and `indexes` are as MongoDB lists
    them."""

    count: int
    sha256: str
    options: dict[str, Any]
    indexes: list[dict[str, Any]]


class Manifest(BaseModel):
    """The manifest of a dump, written last: a directory without it is not a dump. `committed` has the offsets
    of the service's consumer group, `ends` the end of the log."""

    format: int
    service: str
    taken_at: datetime
    committed: Offsets
    ends: Offsets
    collections: dict[str, Stored]

    @property
    def documents(self) -> int:
        return sum(stored.count for stored in self.collections.values())


def dump(settings: ServiceSettings, directory: Path, console: Console, *, behind: bool = False) -> Manifest:
    """Write `<collection>.bson.gz` for each collection, all at one cluster time, and the manifest.

    `behind`: the database is older than its consumer group, such as that of a restored volume. The restored
    service then reads the log from its first record; events already applied are stale by their sequence.

    Raises: `BackupError`; `TransientError`; `pymongo.errors.PyMongoError`, also when the dump takes longer
    than the server keeps snapshots (`minSnapshotHistoryWindowInSeconds`, 300 s by default).
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BackupError(f"{directory} is not empty")
    marks = asyncio.run(broker_of(settings).marks(settings.group, _topics()))
    committed, ends = ({}, dict.fromkeys(marks[1], 0)) if behind else marks
    taken_at = SystemClock().now()
    with _connect(settings) as client, client.start_session(snapshot=True) as session:
        database = client.get_database(settings.database)
        manifest = Manifest(
            format=FORMAT,
            service=settings.service,
            taken_at=taken_at,
            committed=_by_name(committed),
            ends=_by_name(ends),
            collections=_dump_collections(database, session, directory, console),
        )
    _write(directory / MANIFEST, json_util.dumps(manifest.model_dump(), indent=1).encode())
    return manifest


def restore(
    settings: ServiceSettings,
    directory: Path,
    console: Console,
    *,
    database_name: str,
    group: str,
    dry_run: bool = False,
) -> Manifest:
    """Check the dump, fill an empty database, and set the offsets of `group` to the dump's. `rebuild
    --resume` does the rest.

    Jobs that had not ended are paused in the restored database.

    `dry_run` only checks. Raises: `BackupError`, before anything is written; `TransientError`;
    `pymongo.errors.PyMongoError`.
    """
    manifest = check(settings, directory)
    broker = broker_of(settings)
    places = {group: _by_partition(manifest.committed), restore_group(group): _by_partition(manifest.ends)}
    for name, offsets in places.items():
        found, _ = asyncio.run(broker.marks(name, _topics()))
        if found and found != offsets:
            raise BackupError(f"the consumer group {name} has been used: choose another name")
    with _connect(settings) as client:
        database = client.get_database(database_name, write_concern=WriteConcern("majority"))
        if database.list_collection_names():
            raise BackupError(f"the database {database_name} is not empty: choose another name")
        if dry_run:
            return manifest
        _fill(database, manifest, directory, console)
        for name, offsets in places.items():
            asyncio.run(broker.place(name, offsets))
        if paused := _pause_jobs(database):
            console.print(f"{paused} jobs that had not ended are paused: resume or cancel each.")
        database["rebuild"].update_one({"_id": DUMP}, {"$set": {"whole": True}})
    return manifest


def check(settings: ServiceSettings, directory: Path) -> Manifest:
    """The manifest of a complete, undamaged dump of this service. Raises: `BackupError`."""
    try:
        manifest = Manifest.model_validate(json_util.loads((directory / MANIFEST).read_text("utf-8")))
    except FileNotFoundError:
        raise BackupError(f"{directory} holds no dump, or an unfinished one") from None
    except (ValueError, ValidationError):
        raise BackupError(f"{directory / MANIFEST} cannot be read") from None
    if (manifest.format, manifest.service) != (FORMAT, settings.service):
        raise BackupError(f"this is a dump of {manifest.service}, format {manifest.format}")
    for name, stored in manifest.collections.items():
        file = _file(directory, name)
        if not file.is_file() or _sha256(file) != stored.sha256:
            raise BackupError(f"{file.name} is missing or damaged")
    return manifest


def _dump_collections(
    database: Mongo, session: ClientSession, directory: Path, console: Console
) -> dict[str, Stored]:
    described = {row["name"]: row["options"] for row in database.list_collections()}
    wanted = sorted(name for name in described if not name.startswith("system.") and name not in PASSING)
    if not wanted:
        raise BackupError(f"the database {database.name} does not exist")
    stored = {}
    for name in wanted:
        indexes = [dict(index) for index in database[name].list_indexes()]
        count = _dump_documents(database, name, session, directory, console)
        stored[name] = Stored(
            count=count, sha256=_sha256(_file(directory, name)), options=described[name], indexes=indexes
        )
    return stored


def _dump_documents(
    database: Mongo, name: str, session: ClientSession, directory: Path, console: Console
) -> int:
    count, expected = 0, database[name].estimated_document_count()
    file = _file(directory, name)
    file.touch(mode=0o600)
    with gzip.open(file, "wb") as out, Meter(console, name) as meter:
        for document in database[name].with_options(_RAW).find({}, session=session):
            out.write(document.raw)
            count += 1
            meter.show(count, max(count, expected))
    return count


def _fill(database: Mongo, manifest: Manifest, directory: Path, console: Console) -> None:
    begun: dict[str, Any] = {"_id": DUMP, "whole": False, "taken_at": manifest.taken_at}
    mark = database["rebuild"]
    mark.insert_one(begun)
    # The records before the dump's offsets are in the dump, so no part of the log is missing: offset 0.
    rows: list[dict[str, Any]] = [
        {"_id": place, "topic": place.partition(":")[0], "first": 0}
        for place, end in manifest.ends.items()
        if end
    ]
    if rows:
        mark.insert_many(rows)
    for name, stored in manifest.collections.items():
        rules = {k: v for k, v in stored.options.items() if k.startswith("validat")}
        database.create_collection(name, **{k: v for k, v in stored.options.items() if k not in rules})
        own = [{k: v for k, v in index.items() if k not in ("v", "ns")} for index in stored.indexes]
        if indexes := [index for index in own if index["name"] != "_id_"]:
            database.command("createIndexes", name, indexes=indexes)
        done = 0
        with Meter(console, name) as meter:
            for done in _insert(database, name, _file(directory, name)):
                meter.show(done, stored.count)
        if rules:  # last: they may have become stricter after some documents were written
            database.command("collMod", name, **rules)
        if done != stored.count:
            raise BackupError(f"{name}: {done} documents restored, but {stored.count} were dumped")


def _insert(database: Mongo, name: str, file: Path) -> Iterator[int]:
    """Insert the documents of a file. Yields how many are in, after each batch."""
    done, batch = 0, []
    with gzip.open(file, "rb") as source:
        for document in decode_file_iter(cast(BinaryIO, source), _RAW):
            batch.append(document)
            if len(batch) == BATCH:
                database[name].insert_many(batch, ordered=False)
                done, batch = done + len(batch), []
                yield done
    if batch:
        database[name].insert_many(batch, ordered=False)
        yield done + len(batch)


def _pause_jobs(database: Mongo) -> int:
    """Pause the jobs that were live in the dump: they may have ended since, or their work be out of date."""
    live = {"state": {"$in": list(LIVE)}}
    return database["jobs"].update_many(live, {"$set": {"state": "paused", "lease": None}}).modified_count


def _connect(settings: ServiceSettings) -> MongoClient[dict[str, Any]]:
    """pymongo's own client, because motor has no snapshot sessions."""
    return MongoClient(settings.mongo_uri, appname=f"sangathan-{settings.service}-backup", tz_aware=True)


def _topics() -> list[str]:
    return sorted({event.topic for event in EVENTS})


def _by_name(offsets: Mapping[Partition, int]) -> Offsets:
    return {f"{topic}:{number}": offset for (topic, number), offset in sorted(offsets.items())}


def _by_partition(offsets: Offsets) -> dict[Partition, int]:
    split = ((place.rpartition(":"), offset) for place, offset in offsets.items())
    return {Partition(topic, int(number)): offset for (topic, _, number), offset in split}


def _file(directory: Path, collection: str) -> Path:
    return directory / f"{collection}.bson.gz"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write(file: Path, content: bytes) -> None:
    draft = file.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(file)
