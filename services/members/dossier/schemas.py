"""A dossier as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.members.core.ledger import LedgerEntry
from services.members.core.schemas import MemberShown, View, member_view
from services.members.dossier.service import Dossier, HeldRecord
from services.shared.database import Document, as_dict

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


class MergeOfMember(BaseModel):
    """`other` was merged into `survivor`; `undone_at` says that they were parted again. `by` and `undone_by`
    are subjects of tokens."""

    id: str
    survivor: str
    other: str
    by: str
    at: datetime
    undone_at: datetime | None = None
    undone_by: str | None = None


class GrievanceOfMember(BaseModel):
    """A grievance with its words; `due_at` is by when it has to have an answer."""

    id: str
    member_id: str
    unit: str
    kind: str
    state: str
    opened_at: datetime
    opened_by: str
    due_at: datetime
    answered_at: datetime | None = None
    closed_at: datetime | None = None
    text: str
    answer: str | None = None


class ImportOfMember(BaseModel):
    """An import from which a consent of the member came, or whose file, of the last 7 days, named the member:
    who sent it, when, for which unit."""

    id: str
    by: str
    unit: str
    at: datetime


class ReadOfMember(BaseModel):
    """An occasion on which a contact was shown: to whom (the subject of a token), when, by which way."""

    at: datetime
    subject: str
    via: str


class RecordShown(BaseModel):
    """All that is held under one member's id. The parts of the other services are as
    `GET /v1/members/{id}/holdings` of each describes them."""

    profile: MemberShown
    consents: list[ConsentChange]
    roles: list[RoleTerm]
    role_changes: list[RoleChange]
    groups: dict[str, Any]
    notifications: dict[str, Any]
    analytics: dict[str, Any]


class DossierShown(RecordShown):
    """All that the four services hold about a person: the record of the member who stands for them, those
    that were `merged` into it, and what is held about all of these. `reads` are the newest 1,000 of
    `reads_total`. A dossier from which one of the services is missing is not given at all."""

    made_at: datetime
    merged: list[RecordShown]
    merges: list[MergeOfMember]
    notices: list[NoticeText]
    grievances: list[GrievanceOfMember]
    imports: list[ImportOfMember]
    reads: list[ReadOfMember]
    reads_total: int


def dossier_view(dossier: Dossier) -> View:
    """The values of a `DossierShown`."""
    first, *merged = [_record_view(record) for record in dossier.records]
    return {
        **first,
        "made_at": dossier.made_at,
        "merged": merged,
        "merges": [_values(MergeOfMember, each) for each in dossier.merges],
        "notices": [
            {name: getattr(each, name) for name in NoticeText.model_fields} for each in dossier.notices
        ],
        "grievances": [_values(GrievanceOfMember, each) for each in dossier.grievances],
        "imports": dossier.imports,
        "reads": dossier.reads,
        "reads_total": dossier.reads_total,
    }


def _record_view(record: HeldRecord) -> View:
    entries = [_entry(entry) for entry in record.ledger]
    for entry in entries:
        del entry["member_id"]
    return {
        "profile": member_view(record.member, record.contact),
        "consents": entries,
        "roles": record.terms,
        "role_changes": record.role_changes,
        **record.others,
    }


def _values(model: type[BaseModel], row: Document) -> View:
    """The model's fields from a document, which lacks those without a value."""
    return {name: row.get(name) for name in model.model_fields}
