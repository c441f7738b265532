"""The notices that people are shown.

`notices`: `{_id: {version, language}, text, sha256, registered_by, registered_at}`; never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pymongo.errors import DuplicateKeyError

from services.members.consents.domain import Notice
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

_NOTICE: Final = Codec(Notice)


class NoticeStore:
    def __init__(self, database: Database) -> None:
        self._notices: Collection = database["notices"]

    async def find(self, version: str, language: str, session: Session | None = None) -> Notice | None:
        row = await self._notices.find_one({"_id": _key(version, language)}, session=session)
        return _NOTICE.decode(row) if row else None

    async def find_many(self, named: Iterable[tuple[str, str]]) -> list[Notice]:
        """The notices among these `(version, language)` that are registered."""
        keys = [_key(*each) for each in sorted(named)]
        return [_NOTICE.decode(row) async for row in self._notices.find({"_id": {"$in": keys}})]

    async def add(self, notice: Notice) -> bool:
        """False when the version and language have a text already."""
        try:
            await self._notices.insert_one(
                {"_id": _key(notice.version, notice.language), **_NOTICE.encode(notice)}
            )
        except DuplicateKeyError:
            return False
        return True


def _key(version: str, language: str) -> Document:
    return {"version": version, "language": language}


async def _create(database: Database) -> None:
    await create(
        database, "notices", required={"text": {"bsonType": "string"}, "sha256": {"bsonType": "string"}}
    )


MIGRATIONS: Final = (Migration("consents-0001", "notices", _create),)
