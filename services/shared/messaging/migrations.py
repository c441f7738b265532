"""Migrations of messaging's collections: outbox, inbox, dead letters, fuses, and the locks of sub-batches."""

from __future__ import annotations

import contextlib
from typing import Final

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from services.shared.database import Database, Document, Migration, create
from services.shared.messaging.consuming import sub_batches
from services.shared.messaging.consuming.inbox import RETENTION
from services.shared.messaging.dead_letters.store import IN_ORDER


async def _collections(database: Database) -> None:
    seconds = int(RETENTION.total_seconds())
    await create(database, "inbox", indexes=[IndexModel("at", expireAfterSeconds=seconds)])
    await create(
        database,
        "outbox",
        required={"topic": {"bsonType": "string"}, "value": {"bsonType": "binData"}},
        indexes=[IndexModel("subject")],
    )
    await create(
        database,
        "dead_letters",
        required=_letter_fields("dead", "replayed", "discarded"),
        indexes=_letter_indexes(),
    )
    with contextlib.suppress(OperationFailure):  # only databases of the first release have it
        await database["dead_letters"].drop_index("state_1__id_1")
    await create(database, "fuses")
    # Created before the first lock: a collection created inside a transaction is invisible to others, so its
    # locks would lock nobody out.
    await create(database, sub_batches.COLLECTION)


async def _newer_types(database: Database) -> None:
    await create(
        database,
        "dead_letters",
        required=_letter_fields("dead", "replayed", "discarded", "set_aside"),
        indexes=_letter_indexes(),
    )


def _letter_fields(*states: str) -> Document:
    return {"reason": {"bsonType": "string"}, "state": {"enum": list(states)}}


def _letter_indexes() -> list[IndexModel]:
    """One index for all listings, counts and summaries, and one that finds the letters that hold back a
    replay."""
    in_order = [("state", 1), *IN_ORDER, ("type", 1), ("reason", 1), ("at", 1)]
    held = IndexModel([("headers.ce_subject", 1)], partialFilterExpression={"retried_at": {"$exists": True}})
    return [IndexModel(in_order), held]


async def _set_aside(database: Database) -> None:
    marked = {"stuck": {"$exists": True}}
    index = IndexModel([("stuck", 1), ("topic", 1)], partialFilterExpression=marked)
    await database["outbox"].create_indexes([index])


async def _letters_by_subject(database: Database) -> None:
    """For `DeadLetters.forget_subjects`."""
    by_subject = IndexModel("headers.ce_subject", name="letters_by_subject")
    await database["dead_letters"].create_indexes([by_subject])


MIGRATIONS: Final = (
    Migration("messaging-0001", "outbox, inbox, dead letters, fuses, locks", _collections),
    Migration("messaging-0002", "records that are set aside for a later release", _newer_types),
    Migration("messaging-0003", "letters by the subject of their event", _letters_by_subject),
    Migration("relay-0001", "set-aside rows of the outbox", _set_aside),
)
