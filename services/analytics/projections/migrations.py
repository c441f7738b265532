"""The collections of facts, one for each projection, named as it is."""

from __future__ import annotations

from typing import Final

from pymongo import IndexModel

from services.analytics.projections.catalogue import PROJECTIONS
from services.analytics.projections.units import UNITS
from services.shared.database import Database, Migration, create


async def _facts(database: Database) -> None:
    for projection in PROJECTIONS:
        by_level = [IndexModel([("level", 1), ("_id", 1)])] if projection is UNITS else []
        await create(database, projection.name, required={"upto": {"bsonType": "int"}}, indexes=by_level)


MIGRATIONS: Final = (Migration("projections-0001", "facts", _facts),)
