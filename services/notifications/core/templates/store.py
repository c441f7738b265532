"""`templates {_id: name.language.version, ...TextVersion}`, and `template_changes {_id: "templates",
revision}`: the number grows with each change, so that processes see whether there was one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

from pymongo import DESCENDING, IndexModel

from services.notifications.core.templates.domain import Approval, ApprovalState, TextVersion
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

TEMPLATES: Final = "templates"
CHANGES: Final = "template_changes"
_ONE: Final = {"_id": "templates"}
_CODEC: Final = Codec(TextVersion, id_field="id", omit_none=("created_at", "created_by"))
_APPROVAL: Final = Codec(Approval, omit_none=("header", "text", "language"))


class TemplateStore:
    def __init__(self, database: Database) -> None:
        self._templates: Collection = database[TEMPLATES]
        self._changes: Collection = database[CHANGES]

    async def revision(self) -> int:
        row = await self._changes.find_one(_ONE)
        return row["revision"] if row else 0

    async def changed(self, session: Session) -> None:
        """Number a change. Two at once conflict here, and one of them runs again."""
        await self._changes.update_one(_ONE, {"$inc": {"revision": 1}}, upsert=True, session=session)

    async def everything(self) -> AsyncIterator[TextVersion]:
        """By name and language, the newest version first."""
        order = [("name", 1), ("language", 1), ("version", DESCENDING)]
        async for row in self._templates.find({}).sort(order):
            yield _CODEC.decode(row)

    async def versions(
        self, name: str, language: str, limit: int, before: int | None = None, session: Session | None = None
    ) -> list[TextVersion]:
        """The newest first; with `before`, only earlier ones."""
        query: Document = {"name": name, "language": language}
        if before is not None:
            query["version"] = {"$lt": before}
        found = self._templates.find(query, session=session).sort("version", DESCENDING).limit(limit)
        return [_CODEC.decode(row) async for row in found]

    async def version(
        self, name: str, language: str, version: int, session: Session | None = None
    ) -> TextVersion | None:
        query = {"name": name, "language": language, "version": version}
        row = await self._templates.find_one(query, session=session)
        return _CODEC.decode(row) if row else None

    async def add(self, version: TextVersion, session: Session) -> None:
        await self._templates.insert_one(_CODEC.encode(version), session=session)

    async def approve(self, id_: str, approval: Approval, session: Session) -> None:
        """Write the approval for its channel in place of the one before."""
        others = {"$filter": {"input": "$approvals", "cond": {"$ne": ["$$this.channel", approval.channel]}}}
        row = {"$literal": _APPROVAL.encode(approval)}
        change: list[Document] = [{"$set": {"approvals": {"$concatArrays": [others, [row]]}}}]
        await self._templates.update_one({"_id": id_}, change, session=session)

    async def told(
        self,
        channel: str,
        name: str,
        languages: Sequence[str],
        state: ApprovalState,
        at: datetime,
        session: Session,
    ) -> int:
        """A provider tells the state of its template. Returns how many versions are another way now."""
        mine = {
            "channel": channel,
            "name": name,
            "language": {"$in": list(languages)},
            "state": {"$ne": state.value},
            "changed_at": {"$lt": at},
        }
        change = {"approvals.$[mine].state": state.value, "approvals.$[mine].changed_at": at}
        wanted = {f"mine.{key}": value for key, value in mine.items()}
        result = await self._templates.update_many(
            {"approvals": {"$elemMatch": mine}}, {"$set": change}, array_filters=[wanted], session=session
        )
        return int(result.modified_count)


async def _templates(database: Database) -> None:
    text: Document = {"bsonType": "string"}
    required: Document = {
        "name": text,
        "language": text,
        "version": {"bsonType": ["int", "long"], "minimum": 1},
        "wording": {"bsonType": "object"},
        "approvals": {"bsonType": "array"},
    }
    by_name = IndexModel([("name", 1), ("language", 1), ("version", DESCENDING)], unique=True)
    await create(database, TEMPLATES, required=required, indexes=[by_name])
    await create(database, CHANGES, required={"revision": {"bsonType": ["int", "long"], "minimum": 1}})


MIGRATIONS: Final = (Migration("core-0008", "templates", _templates),)
