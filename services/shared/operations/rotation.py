"""Key rotation: seals the data keys with the current master key, creates a new data key, and seals every
document with it.

An interrupted rotation continues where it stopped. The sealed content does not change, so there is no new
version and no event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bson.binary import Binary
from pymongo import UpdateOne

from services.shared.clock import SystemClock
from services.shared.config.settings import ServiceSettings
from services.shared.database import Collection, Database, Document, Migration, connect, database, migrate
from services.shared.encryption.vault import REFRESH_SECONDS, Vault, is_sealed_with

BATCH: Final = 500
Say = Callable[[str], None]


@dataclass(frozen=True)
class Sealed:
    """A collection and its sealed field. `what` names the content in progress messages."""

    collection: str
    field: str
    what: str


async def rotate_keys(
    settings: ServiceSettings,
    master_keys: Mapping[str, bytes],
    migrations: Sequence[Migration],
    sealed: Sequence[Sealed],
    say: Say,
    *,
    settle_seconds: float = REFRESH_SECONDS,
    max_batches: int | None = None,
) -> bool:
    """Rotate the keys. True once everything is sealed with the new key.

    `settle_seconds` is the wait until running services use the new data key too. After `max_batches` it
    returns False; the next call continues.
    """
    client = connect(settings.mongo_uri, app_name=f"sangathan-{settings.service}-rotation")
    own = database(client, settings.database)
    vault = Vault(client, own, master_keys)
    try:
        await migrate(own, migrations, SystemClock())
        say(f"data keys sealed by the current master key: {await vault.rotate_master()}")
        rotation = Rotation(own, vault, sealed, say, settle_seconds)
        return await rotation.run(max_batches)
    finally:
        await vault.close()
        client.close()


class Rotation:
    """A rotation. Its progress is in `rotations`: `{_id: "sealed", key, collection, after}`."""

    def __init__(
        self, database: Database, vault: Vault, sealed: Sequence[Sealed], say: Say, settle_seconds: float
    ) -> None:
        self._database = database
        self._progress: Collection = database["rotations"]
        self._vault = vault
        self._sealed = sealed
        self._say = say
        self._settle_seconds = settle_seconds

    async def run(self, max_batches: int | None) -> bool:
        key, collection, after = await self._begin()
        names = [each.collection for each in self._sealed]
        left = max_batches
        for sealed in self._sealed[names.index(collection) :]:
            left = await self._reseal(sealed, key, after, left)
            if left == 0:
                return False
            after = ""
        await self._progress.delete_one({"_id": "sealed"})
        self._say("done")
        return True

    async def _begin(self) -> tuple[Binary, str, str]:
        """The key to seal with, and the collection and id to continue after."""
        earlier = await self._progress.find_one({"_id": "sealed"})
        if earlier and earlier["key"] == await self._vault.current_key():
            self._say("continuing the interrupted rotation")
            return earlier["key"], earlier["collection"], earlier["after"]
        key = await self._vault.rotate_data_key()
        self._say(f"new data key created; waiting {self._settle_seconds:.0f} s until running services use it")
        await asyncio.sleep(self._settle_seconds)
        first = self._sealed[0].collection
        await self._reached(key, first, "")
        return key, first, ""

    async def _reseal(self, sealed: Sealed, key: Binary, after: str, left: int | None) -> int | None:
        """Seal one collection. Returns how many of the `left` batches remain, or 0 if they were not
        enough."""
        seen = changed = 0
        while rows := await self._batch(sealed, after):
            if left == 0:
                return 0
            behind = [(row["_id"], row[sealed.field]) for row in rows]
            behind = [(i, old) for i, old in behind if not is_sealed_with(key, old)]
            await self._replace(sealed, behind)
            after = rows[-1]["_id"]
            await self._reached(key, sealed.collection, after)
            left = None if left is None else left - 1
            seen, changed = seen + len(rows), changed + len(behind)
            self._say(f"{sealed.collection} checked: {seen}, {sealed.what} sealed anew: {changed}")
        return left

    async def _batch(self, sealed: Sealed, after: str) -> list[Document]:
        query = {"_id": {"$gt": after}, sealed.field: {"$exists": True}}
        rows = self._database[sealed.collection].find(query, {sealed.field: 1})
        return await rows.sort("_id", 1).limit(BATCH).to_list(BATCH)

    async def _replace(self, sealed: Sealed, behind: Sequence[tuple[str, Binary]]) -> None:
        """Replace unchanged fields only: a field changed meanwhile was sealed with the new key by its
        writer."""
        opened = await self._vault.open(behind)
        new = await self._vault.seal((i, document) for (i, _), document in zip(behind, opened, strict=True))
        writes = [
            UpdateOne({"_id": i, sealed.field: old}, {"$set": {sealed.field: anew}})
            for (i, old), anew in zip(behind, new, strict=True)
        ]
        if writes:
            await self._database[sealed.collection].bulk_write(writes, ordered=False)

    async def _reached(self, key: Binary, collection: str, after: str) -> None:
        row = {"key": key, "collection": collection, "after": after}
        await self._progress.replace_one({"_id": "sealed"}, row, upsert=True)
