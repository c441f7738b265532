"""Requests and answers about merges."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel
from pydantic import Field as Limits

from services.members.core.domain import Consent
from services.members.core.schemas import ConsentShown, MemberId, RequestBody, RoleShown, View
from services.members.merges.domain import Choice, Field, Side
from services.members.merges.records import Merge
from services.members.merges.service import Preview
from services.shared.database import as_dict

_consent: Final = as_dict(Consent)
_merge: Final = as_dict(Merge)


class MergeIn(RequestBody):
    """`other` is merged into the member of the path. `fields` names the record whose value of a field
    survives; without it, the survivor's, and the other's where the survivor has none."""

    other: MemberId
    fields: Annotated[Mapping[Field, Side], Limits(max_length=len(Field))] = {}

    @property
    def choice(self) -> Choice:
        return {Field(name): Side(side) for name, side in self.fields.items()}


class FieldShown(BaseModel):
    """The values of both records, and the one that survives. Handles are united: `{platform: handle}`."""

    survivor: Any
    other: Any
    survives: Any


class PreviewShown(BaseModel):
    """The effect of a merge. `consents` and `roles` are those of the survivor that would change."""

    survivor: str
    other: str
    version: int
    fields: dict[Field, FieldShown]
    consents: list[ConsentShown]
    roles: list[RoleShown]


class MergeShown(BaseModel):
    """A merge. `by` and `undone_by` are subjects of tokens."""

    id: str
    survivor: str
    other: str
    by: str
    at: datetime
    undo_until: datetime
    undone_at: datetime | None
    undone_by: str | None


def merge_view(merge: Merge) -> View:
    return {**_merge(merge), "undo_until": merge.undo_until}


def preview_view(preview: Preview, other: str) -> View:
    fields = {
        name.value: {
            "survivor": preview.ours[name],
            "other": preview.theirs[name],
            "survives": preview.surviving[name],
        }
        for name in Field
    }
    return {
        "survivor": preview.survivor.id,
        "other": other,
        "version": preview.survivor.version,
        "fields": fields,
        "consents": [_consent(consent) for consent in preview.consents],
        "roles": [{"role": term.role, "unit": term.unit} for term in preview.roles],
    }
