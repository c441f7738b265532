"""A lease: at most one holder at a time does a piece of work.

MongoDB's clock (`$$NOW`) decides when a lease expires, never the process's clock. A holder that was paused
beyond its lease may act once more before it notices, so any work under a lease must be harmless when done
twice.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from services.shared.database.mongo import Database
from services.shared.ids import new_id

EPOCH = datetime.fromtimestamp(0, UTC)


class Lease:
    def __init__(self, database: Database, name: str, *, seconds: float) -> None:
        self._leases = database["leases"]
        self._name = name
        self._seconds = seconds
        self._holder = new_id()  # not the instance's name: a restarted process is a new holder
        self._renew_at = 0.0
        self._held_until = 0.0

    @property
    def held(self) -> bool:
        return time.monotonic() < self._held_until

    async def hold(self) -> bool:
        """Take or renew the lease; True if this process holds it. Writes only after a third of the lease's
        time has passed."""
        now = time.monotonic()
        if self.held and now < self._renew_at:
            return True
        mine = {
            "$or": [
                {"$eq": ["$holder", self._holder]},
                {"$lt": [{"$ifNull": ["$expires_at", EPOCH]}, "$$NOW"]},
            ]
        }
        until = {"$add": ["$$NOW", int(self._seconds * 1000)]}
        try:
            row = await self._leases.find_one_and_update(
                {"_id": self._name},
                [
                    {"$set": {"mine": mine}},
                    {
                        "$set": {
                            "holder": {"$cond": ["$mine", self._holder, "$holder"]},
                            "expires_at": {"$cond": ["$mine", until, "$expires_at"]},
                        }
                    },
                    {"$unset": "mine"},
                ],
                upsert=True,
                return_document=True,
            )
        except DuplicateKeyError:  # another process inserted the row first
            row = None
        if row is None or row["holder"] != self._holder:
            self._held_until = 0.0
            return False
        # Counted from before the write, so that this process gives the lease up before MongoDB does.
        self._held_until = now + self._seconds
        self._renew_at = now + self._seconds / 3
        return self.held  # False if the answer came after the lease had expired

    async def taken(self) -> bool:
        """Whether any process holds the lease."""
        live = {"_id": self._name, "$expr": {"$gt": ["$expires_at", "$$NOW"]}}
        return await self._leases.count_documents(live) > 0

    async def release(self) -> None:
        self._held_until = 0.0
        await self._leases.delete_one({"_id": self._name, "holder": self._holder})
