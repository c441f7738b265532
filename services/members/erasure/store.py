"""The migrations of erasures; their queries are core, since a restore applies erasures too."""

from __future__ import annotations

from typing import Final

from pymongo import IndexModel

from services.members.core.domain import Status
from services.members.core.erasing import ErasureState
from services.members.core.erasures import ERASURES, SEALS
from services.shared.database import Database, Document, Migration, create

_TEXT: Final[Document] = {"bsonType": "string"}
_DATE: Final[Document] = {"bsonType": "date"}


async def _create(database: Database) -> None:
    await create(
        database,
        ERASURES,
        required={
            "member_id": _TEXT,
            "unit": _TEXT,
            "state": {"enum": [state.value for state in ErasureState]},
            "requested_at": _DATE,
        },
        indexes=[
            IndexModel("member_id", unique=True),
            IndexModel([("unit", 1), ("_id", -1)]),
            IndexModel([("state", 1), ("requested_at", 1)]),
            IndexModel("next_at", sparse=True),
        ],
    )
    await create(database, SEALS, required={"sealed": {"bsonType": "binData"}})
    await database[SEALS].create_indexes([IndexModel("phone_index")])
    left = IndexModel(
        [("status", 1), ("updated_at", 1)],
        name="left_with_contact",
        partialFilterExpression={"status": Status.LEFT.value, "phone_index": {"$gt": ""}},
    )
    merged = IndexModel(
        "merged_into", name="merged_into", partialFilterExpression={"status": Status.MERGED.value}
    )
    await database["members"].create_indexes([left, merged])


MIGRATIONS: Final = (Migration("erasure-0001", "erasures, their seals, contacts of those who left", _create),)
