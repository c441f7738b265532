"""The member as they are, without what identifies them: the documents are read without name, contact and fingerprint."""

from __future__ import annotations

from typing import Final

from services.members.domain import Consent, agreed_channels
from services.shared.contracts.members import MemberSnapshot
from services.shared.database import Document
from services.shared.operations.republish import Source

_SAID: Final = (
    "unit",
    "gender",
    "language",
    "platforms",
    "roles",
    "consents",
    "joined_at",
    "inviter_id",
    "status",
    "version",
)


def member(row: Document) -> tuple[MemberSnapshot, int]:
    """Whether the channels can be reached is asked before sending, so the contact need not be opened here."""
    snapshot = MemberSnapshot(
        member_id=row["_id"],
        unit=row["unit"],
        gender=row["gender"],
        language=row["language"],
        platforms=tuple(row["platforms"]),
        roles=tuple(role["role"] for role in row["roles"]),
        joined_at=row["joined_at"],
        inviter_id=row.get("inviter_id"),
        channels=agreed_channels([Consent(**consent) for consent in row["consents"]]),
        status=row["status"],
    )
    return snapshot, row["version"]


SOURCES: Final = (Source("members", "unit", _SAID, member),)
