"""Snapshots of members for `republish`: name, contact and fingerprint are not even read."""

from __future__ import annotations

from typing import Final

from services.members.core.domain import Consent, Status, agreed_channels, agreed_to_groups, may_be_minor
from services.members.core.store import MEMBER
from services.shared.clock import SystemClock
from services.shared.contracts.members import MemberSnapshot
from services.shared.database import Document
from services.shared.runtime import Source

_COPIED: Final = tuple(name for name in MemberSnapshot.model_fields if name in MEMBER.keys)
"""Fields of a snapshot that are fields of a member."""


def member(row: Document) -> tuple[MemberSnapshot, int]:
    """The snapshot and its sequence.

    Its channels are those agreed to. The sender checks that they reach the member; no contact is opened here.
    """
    copied = {name: row[name] for name in _COPIED if name in row}
    copied["roles"] = [role["role"] for role in row["roles"]]
    copied["roles_held"] = row["roles"]
    copied["own_number"] = row.get("reached_by") is None
    year, minor = row.get("birth_year"), row.get("minor")
    copied["adult"] = not may_be_minor(year, SystemClock().now()) if year else False if minor else None
    active = row["status"] == Status.ACTIVE
    copied["status"] = (Status.ACTIVE if active else Status.LEFT).value
    welcome = row.get("announced", True) and row["status"] != Status.MERGED
    consents = [Consent(**consent) for consent in row["consents"]]
    copied["group_consent"] = agreed_to_groups(consents)
    channels = agreed_channels(consents) if welcome else ()
    return MemberSnapshot(**copied, member_id=row["_id"], channels=channels), row["version"]


_READ: Final = (*_COPIED, "reached_by", "birth_year", "minor", "consents", "version")
SOURCES: Final = (Source("members", "unit", _READ, member),)
