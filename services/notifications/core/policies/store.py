"""The policies of sending and the budgets of channels.

policies        {_id: version, document, changed_at, changed_by}, a document for each version
budgets         {_id: account, slots: [{at, n}]}, new recipients by quarter of an hour
budget_reached  {_id: account:fingerprint, at}, recipients of the last 24 hours, and an hour more
"""

from __future__ import annotations

from collections.abc import Collection as Many
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import TypeAdapter
from pymongo import DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError

from services.notifications.core.policies.domain import AS_SHIPPED, Policies
from services.shared.database import Collection, Database, Document, Migration, create
from services.shared.errors import StaleVersionError

_POLICIES: Final = TypeAdapter(Policies)
SLOT: Final = timedelta(minutes=15)
"""Recipients are counted by quarters of an hour, so a place in a budget is free that much later at most."""
WINDOW: Final = timedelta(hours=24)


class PolicyStore:
    def __init__(self, database: Database) -> None:
        self._policies: Collection = database["policies"]

    async def current(self) -> Policies:
        """The policies in force; those as shipped while nobody has changed them."""
        row = await self._policies.find_one({}, sort=[("_id", DESCENDING)])
        return _POLICIES.validate_python(row["document"]) if row else AS_SHIPPED

    async def add(self, policies: Policies, changed_at: datetime, changed_by: str) -> None:
        """Raises: `StaleVersionError` when there is a version of that number."""
        row = {
            "_id": policies.version,
            "document": _POLICIES.dump_python(policies, mode="json"),
            "changed_at": changed_at,
            "changed_by": changed_by,
        }
        try:
            await self._policies.insert_one(row)
        except DuplicateKeyError:
            raise StaleVersionError from None

    async def versions(self, before: int | None, limit: int) -> list[Document]:
        """From the newest: `{_id, document, changed_at, changed_by}`."""
        query = {} if before is None else {"_id": {"$lt": before}}
        return await self._policies.find(query).sort("_id", DESCENDING).limit(limit).to_list(limit)


class BudgetStore:
    """How many people an account has reached in the last 24 hours, shared by all processes."""

    def __init__(self, database: Database) -> None:
        self._budgets: Collection = database["budgets"]
        self._reached: Collection = database["budget_reached"]

    async def reached(self, account: str, recipients: Many[str], now: datetime) -> set[str]:
        """Find whom the account has reached in the last 24 hours: they cost nothing more."""
        ids = [f"{account}:{each}" for each in recipients]
        rows = self._reached.find({"_id": {"$in": ids}, "at": {"$gt": now - WINDOW}}, {"_id": 1})
        return {row["_id"].removeprefix(f"{account}:") async for row in rows}

    async def take(self, account: str, wanted: int, limit: int, now: datetime) -> int:
        """Take up to `wanted` places of a budget of `limit`; how many there were."""
        slot = now - (now - datetime.min.replace(tzinfo=now.tzinfo)) % SLOT
        live: Document = {
            "$filter": {
                "input": {"$ifNull": ["$slots", []]},
                "cond": {"$gt": ["$$this.at", now - WINDOW - SLOT]},
            }
        }
        others = {"$filter": {"input": "$slots", "cond": {"$ne": ["$$this.at", slot]}}}
        here = {"$filter": {"input": "$slots", "cond": {"$eq": ["$$this.at", slot]}}}
        filled = [{"at": slot, "n": {"$add": [{"$sum": _numbers(here)}, "$taken"]}}]
        change: list[Document] = [
            {"$set": {"slots": live}},
            {
                "$set": {
                    "taken": {"$max": [0, {"$min": [wanted, {"$subtract": [limit, {"$sum": "$slots.n"}]}]}]}
                }
            },
            {
                "$set": {
                    "slots": {
                        "$cond": [{"$gt": ["$taken", 0]}, {"$concatArrays": [others, filled]}, "$slots"]
                    }
                }
            },
        ]
        row = await self._budgets.find_one_and_update(
            {"_id": account}, change, upsert=True, return_document=ReturnDocument.AFTER
        )
        return int(row["taken"])

    async def spent(self, account: str, now: datetime) -> tuple[int, datetime | None]:
        """How many places are taken, and when the first of them is free again."""
        row = await self._budgets.find_one({"_id": account})
        live = [each for each in (row or {}).get("slots", []) if each["at"] > now - WINDOW - SLOT]
        first = min((each["at"] for each in live), default=None)
        return sum(each["n"] for each in live), first and first + WINDOW + SLOT

    async def remember(self, account: str, recipients: Many[str], now: datetime) -> None:
        if not recipients:
            return
        rows = [{"_id": f"{account}:{each}", "at": now} for each in recipients]
        await self._reached.delete_many(
            {"_id": {"$in": [row["_id"] for row in rows]}, "at": {"$lte": now - WINDOW}}
        )
        try:
            await self._reached.insert_many(rows, ordered=False)
        except BulkWriteError as error:  # another process reaches the same person at this moment
            if any(each["code"] != _DUPLICATE for each in error.details["writeErrors"]):
                raise


_DUPLICATE: Final = 11000


def _numbers(slots: Any) -> Document:
    return {"$map": {"input": slots, "in": "$$this.n"}}


async def _collections(database: Database) -> None:
    await create(
        database,
        "policies",
        required={"document": {"bsonType": "object"}, "changed_at": {"bsonType": "date"}},
    )
    await create(database, "budgets", required={})
    await create(
        database,
        "budget_reached",
        required={"at": {"bsonType": "date"}},
        indexes=[IndexModel("at", expireAfterSeconds=int((WINDOW + timedelta(hours=1)).total_seconds()))],
    )


MIGRATIONS: Final = (Migration("core-0009", "policies of sending, budgets", _collections),)
