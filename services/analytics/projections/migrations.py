"""The collections of facts of the first release, and the pointer."""

from __future__ import annotations

from typing import Final

from services.analytics.core.coverage.store import PROJECTION, CoverageStore
from services.analytics.core.places import COLLECTION, FIRST, POINTER, Place, Pointers
from services.analytics.core.store import create_facts
from services.analytics.projections.catalogue import VERSIONS
from services.analytics.projections.store import first_pointer
from services.shared.database import Database, Migration, create


async def _facts(database: Database) -> None:
    for name in FIRST:
        await create_facts(database, name, levels=name == "units")


async def _pointer(database: Database) -> None:
    """Where each projection is live. In a new database all are, in the versions of this release, since its
    consumers begin with the log. In one that has consumed something, those of the first release are; others
    are built first."""
    await create(database, COLLECTION)
    new = await database["inbox"].find_one({}, {"_id": 1}) is None
    new = new and await database["counters"].find_one({}, {"_id": 1}) is None
    versions = VERSIONS if new else dict.fromkeys(FIRST, 1)
    if new:
        await CoverageStore(database, Pointers(database)).create(Place(PROJECTION, VERSIONS[PROJECTION]))
    await database[COLLECTION].update_one(
        {"_id": POINTER}, {"$setOnInsert": first_pointer(versions)}, upsert=True
    )


MIGRATIONS: Final = (
    Migration("projections-0001", "facts", _facts),
    Migration("projections-0002", "where each projection is live", _pointer),
)
