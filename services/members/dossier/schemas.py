"""A dossier as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.members.core.ledger import LedgerEntry
from services.members.core.schemas import MemberShown, View, member_view
from services.members.dossier.service import Dossier
from services.shared.database import as_dict

_entry = as_dict(LedgerEntry)


class ConsentChange(BaseModel):
    """One change of a consent; `evidence` says where its proof is kept."""

    sequence: int
    purpose: str
    channel: str
    state: str
    notice: str
    language: str
    source: str
    at: datetime
    notice_sha256: str | None
    actor: str | None
    evidence: str | None


class NoticeText(BaseModel):
    """The text that the member was shown for a consent."""

    version: str
    language: str
    text: str
    sha256: str


class RoleTerm(BaseModel):
    role: str
    unit: str
    since: datetime
    until: datetime | None = None


class RoleChange(RoleTerm):
    """`actor` is missing when time did it."""

    change: str
    actor: str | None = None
    at: datetime


class ImportOfMember(BaseModel):
    """An import from which a consent of the member came: who sent it, when, for which unit."""

    id: str
    by: str
    unit: str
    at: datetime


class ReadOfMember(BaseModel):
    """An occasion on which the contact was shown: to whom (the subject of a token), when, by which way."""

    at: datetime
    subject: str
    via: str


class DossierShown(BaseModel):
    """All that the four services hold about a member. `reads` are the newest 1,000 of `reads_total`. What the
    other services hold is as `GET /v1/members/{id}/holdings` of each describes it; a dossier from which one
    of them is missing is not given at all."""

    made_at: datetime
    profile: MemberShown
    consents: list[ConsentChange]
    notices: list[NoticeText]
    roles: list[RoleTerm]
    role_changes: list[RoleChange]
    imports: list[ImportOfMember]
    reads: list[ReadOfMember]
    reads_total: int
    groups: dict[str, Any]
    notifications: dict[str, Any]
    analytics: dict[str, Any]


def dossier_view(dossier: Dossier) -> View:
    """The values of a `DossierShown`."""
    entries = [_entry(entry) for entry in dossier.ledger]
    for entry in entries:
        del entry["member_id"]
    return {
        "made_at": dossier.made_at,
        "profile": member_view(dossier.member, dossier.contact),
        "consents": entries,
        "notices": [
            {name: getattr(each, name) for name in NoticeText.model_fields} for each in dossier.notices
        ],
        "roles": dossier.terms,
        "role_changes": dossier.role_changes,
        "imports": dossier.imports,
        "reads": dossier.reads,
        "reads_total": dossier.reads_total,
        **dossier.others,
    }
