"""The collections of this service. Every index is there for a query of store.py, named beside it."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel

from services.notifications.domain import WELCOME, State
from services.notifications.senders.recording import COLLECTION as RECORDED
from services.shared.database import Database, Document, Migration, create
from services.shared.encryption import create_key_collection
from services.shared.operations.rotation import Sealed

CONTACTS_LIVE_SECONDS = 3600
"""Contacts are cached for an hour at most. MongoDB removes them within a minute after that (TTL monitor)."""

_TEXT: Document = {"bsonType": "string"}
_DATE: Document = {"bsonType": "date"}
_WHOLE: Document = {"bsonType": ["int", "long"], "minimum": 0}
_FLAG: Document = {"bsonType": "bool"}
_SEALED: Document = {"bsonType": "binData"}


async def _first(database: Database) -> None:
    await create(
        database,
        "recipients",
        required={
            "joined": _FLAG,
            "active": _FLAG,
            "unit_sequence": _WHOLE,
            "language_sequence": _WHOLE,
            "contact_sequence": _WHOLE,
            "placement_sequence": _WHOLE,
            "channels": {"bsonType": "array"},
        },
    )
    await create(database, "group_invites", required={"ready": _FLAG, "sequence": _WHOLE})
    await _notifications(database)
    await create(
        database,
        "contacts",
        required={"version": _WHOLE, "sealed": _SEALED, "at": _DATE},
        indexes=[IndexModel("at", expireAfterSeconds=CONTACTS_LIVE_SECONDS)],
    )
    await create(database, RECORDED, required={"member_id": _TEXT, "sealed": _SEALED, "at": _DATE})
    await create_key_collection(database)


async def _notifications(database: Database) -> None:
    await create(
        database,
        "notifications",
        required={
            "member_id": _TEXT,
            "unit": _TEXT,
            "purpose": _TEXT,
            "template": _TEXT,
            "language": _TEXT,
            "state": {"enum": [state.value for state in State]},
            "attempts": {"bsonType": "array"},
            "sequence": _WHOLE,
            "created_at": _DATE,
            "updated_at": _DATE,
        },
        indexes=[
            # welcomes(): and, being unique, never a second welcome.
            IndexModel(
                [("member_id", ASCENDING), ("purpose", ASCENDING)],
                unique=True,
                partialFilterExpression={"purpose": WELCOME},
            ),
            # claim(): only what is due some day has the field.
            IndexModel("due_at", sparse=True),
            # release(), hold(), held(): only what is not finished.
            IndexModel(
                [("open", ASCENDING), ("group_id", ASCENDING), ("held_for", ASCENDING)],
                partialFilterExpression={"open": True},
            ),
            # page(), by unit and by member.
            IndexModel([("unit", ASCENDING), ("_id", ASCENDING), ("state", ASCENDING)]),
            IndexModel([("member_id", ASCENDING), ("unit", ASCENDING), ("_id", ASCENDING)]),
        ],
    )


SEALED = (Sealed("contacts", "sealed", "contacts"), Sealed(RECORDED, "sealed", "messages"))
MIGRATIONS = (Migration(1, "recipients, invites, notifications, contacts, recorded messages", _first),)
