"""The policies of sending and the budgets of channels.

policies        {_id: version, document, changed_at, changed_by}, a document for each version
budgets         {_id: account, slots: [{at, n}], provider: {limit, at}}, new recipients by quarter of an hour,
                and the limit that the provider has told
budget_reached  {_id: account:fingerprint, at, notification}, recipients of the last 24 hours, an hour more
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Mapping
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
        slot = _slot(now)
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

    async def told(self, account: str, limit: int | None, at: datetime) -> None:
        """Keep the provider's own limit, None for none; what it has said before this changes nothing."""
        older = {"$or": [{"provider": None}, {"provider.at": {"$lte": at}}]}
        change = {"$set": {"provider": {"limit": limit, "at": at}}}
        try:
            await self._budgets.update_one({"_id": account, **older}, change, upsert=True)
        except DuplicateKeyError:  # it is there, and has heard something later
            return

    async def limit(self, account: str) -> int | None:
        """The limit that the provider has told, None for none."""
        row = await self._budgets.find_one({"_id": account, "provider": {"$exists": True}}, {"provider": 1})
        limit: int | None = row["provider"]["limit"] if row else None
        return limit

    async def spent(self, account: str, now: datetime) -> tuple[int, datetime | None]:
        """How many places are taken, and when the first of them is free again."""
        row = await self._budgets.find_one({"_id": account})
        live = [each for each in (row or {}).get("slots", []) if each["at"] > now - WINDOW - SLOT]
        first = min((each["at"] for each in live), default=None)
        return sum(each["n"] for each in live), first and first + WINDOW + SLOT

    async def remember(self, account: str, recipients: Mapping[str, str], now: datetime) -> None:
        """Keep who was reached, each with the notification that took the place."""
        if not recipients:
            return
        rows = [
            {"_id": f"{account}:{each}", "at": now, "notification": notification}
            for each, notification in recipients.items()
        ]
        await self._reached.delete_many(
            {"_id": {"$in": [row["_id"] for row in rows]}, "at": {"$lte": now - WINDOW}}
        )
        try:
            await self._reached.insert_many(rows, ordered=False)
        except BulkWriteError as error:  # another process reaches the same person at this moment
            if any(each["code"] != _DUPLICATE for each in error.details["writeErrors"]):
                raise

    async def give_back(self, account: str, recipients: Mapping[str, str]) -> None:
        """Free the places of people who were not reached after all: those that these very notifications have
        taken."""
        mine = [
            {"_id": f"{account}:{each}", "notification": notification}
            for each, notification in recipients.items()
        ]
        rows = await self._reached.find({"$or": mine}).to_list(None) if mine else []
        if not rows:
            return
        await self._reached.delete_many({"$or": mine})
        freed = Counter(_slot(row["at"]) for row in rows)
        left: Document = {
            "$subtract": [
                "$$this.n",
                {
                    "$switch": {
                        "branches": [
                            {"case": {"$eq": ["$$this.at", slot]}, "then": n} for slot, n in freed.items()
                        ],
                        "default": 0,
                    }
                },
            ]
        }
        kept = {"$map": {"input": "$slots", "in": {"at": "$$this.at", "n": {"$max": [0, left]}}}}
        await self._budgets.update_one({"_id": account}, [{"$set": {"slots": kept}}])


_DUPLICATE: Final = 11000


def _slot(at: datetime) -> datetime:
    return at - (at - datetime.min.replace(tzinfo=at.tzinfo)) % SLOT


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
