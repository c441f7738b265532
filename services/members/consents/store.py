"""The collection of notices; the core's `NoticeStore` reads and writes it."""

from __future__ import annotations

from typing import Final

from services.shared.database import Database, Migration, create


async def _create(database: Database) -> None:
    await create(
        database, "notices", required={"text": {"bsonType": "string"}, "sha256": {"bsonType": "string"}}
    )


MIGRATIONS: Final = (Migration("consents-0001", "notices", _create),)
