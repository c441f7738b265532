"""Queries of invites: plain links, and members who are to be invited again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pymongo import IndexModel, UpdateOne

from services.groups.core.observations.domain import Observation
from services.groups.core.observations.store import OBSERVATIONS
from services.shared.database import Database, Document, Migration, Session
from services.shared.encryption import Ciphertext

_PLAIN: Final[Document] = {"invite_link": {"$type": "string"}}


class InviteStore:
    def __init__(self, database: Database) -> None:
        self._groups = database["groups"]
        self._observations = database["observations"]

    async def plain_links(self, limit: int) -> dict[str, str]:
        """Links by group that no seal is on."""
        rows = self._groups.find(_PLAIN, {"invite_link": 1}).limit(limit)
        return {row["_id"]: row["invite_link"] async for row in rows}

    async def seal(self, plain: dict[str, str], sealed: dict[str, Ciphertext]) -> None:
        """A link that has changed meanwhile stays as it is, for the next time."""
        writes = [
            UpdateOne(
                {"_id": id_, "invite_link": link}, {"$set": {"sealed_link": sealed[id_], "invite_link": None}}
            )
            for id_, link in plain.items()
        ]
        await self._groups.bulk_write(writes, ordered=False)

    async def due(self, now: datetime, limit: int, session: Session | None = None) -> list[Observation]:
        """Members who are to be invited again, those first who have been due for longest."""
        rows = self._observations.find({"due_at": {"$lte": now}}, session=session).sort("due_at", 1)
        return [OBSERVATIONS.decode(row) async for row in rows.limit(limit)]

    async def first_due(self) -> datetime | None:
        row = await self._observations.find_one(
            {"due_at": {"$type": "date"}}, {"due_at": 1}, sort=[("due_at", 1)]
        )
        due: datetime | None = row["due_at"] if row else None
        return due


async def _plain_links(database: Database) -> None:
    """For `InviteStore.plain_links`; those that there are now are sealed in the background."""
    index = IndexModel("invite_link", partialFilterExpression=_PLAIN)
    await database["groups"].create_indexes([index])


MIGRATIONS: Final = (Migration("invites-0001", "index of links without a seal", _plain_links),)
