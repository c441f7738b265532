"""The parameters of an import, and an import as answers show it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import Query
from pydantic import BaseModel

from services.members.core.schemas import Evidence
from services.members.imports.domain import OUTCOMES, PlannedRow, Terms
from services.members.imports.service import Import
from services.shared.contracts.vocabulary import Channel, Language, Purpose, UnitCode
from services.shared.errors import FieldError, InvalidError

MAX_MAPPING: Final = 8192
_GIVEN: Final = frozenset(f"{purpose.value}:{channel.value}" for purpose in Purpose for channel in Channel)

Mapping_ = Annotated[
    str | None,
    Query(
        max_length=MAX_MAPPING,
        description='JSON, column to field, such as `{"Mob. 1": "phone", "Remarks": "ignore"}`.',
    ),
]
_Unit = Annotated[UnitCode | None, Query(description="Unit of new members whose row names none.")]
_Announce = Annotated[
    Literal["none", "welcome"],
    Query(description="Whether new members get a welcome."),
]
_Consents = Annotated[
    str | None,
    Query(
        max_length=500,
        description="Consents that new members gave, such as `welcome:whatsapp,welcome:sms`. Needs "
        "`consents:write`, `notice` and `evidence`; a row whose column `consent` says no, or is blank, gets "
        "none.",
    ),
]
_Notice = Annotated[
    str | None,
    Query(min_length=1, max_length=100, description="The registered notice that they were shown."),
]
_NoticeLanguage = Annotated[Language, Query(description="The language of that notice.")]
_Evidence = Annotated[
    Evidence | None,
    Query(
        description="Where the proof is kept, such as a register's number; no phone number and no address."
    ),
]


def mapping_of(text: str | None) -> dict[str, str]:
    """Raises: `InvalidError`."""
    try:
        mapping = orjson.loads(text or "{}")
    except ValueError:
        mapping = None
    if not isinstance(mapping, dict) or not all(isinstance(field, str) for field in mapping.values()):
        raise _invalid("mapping", "must be a JSON object of column to field")
    return mapping


async def terms_of(
    unit: _Unit = None,
    announce: _Announce = "none",
    consents: _Consents = None,
    notice: _Notice = None,
    notice_language: _NoticeLanguage = Language.HINDI,
    evidence: _Evidence = None,
) -> Terms:
    """The terms that a request sets for all rows.

    Raises: `InvalidError`.
    """
    given = [each.strip() for each in (consents or "").split(",") if each.strip()]
    if not set(given) <= _GIVEN or len(set(given)) < len(given):
        raise _invalid("consents", "must be different pairs purpose:channel, separated by commas")
    for name, value in (("notice", notice), ("evidence", evidence)):
        if given and value is None:
            raise _invalid(name, "is needed for consents")
    pairs = tuple((purpose, channel) for purpose, _, channel in (each.partition(":") for each in given))
    return Terms(
        unit=unit,
        announce=announce == "welcome",
        consents=pairs,
        notice=(notice or "") if given else "",
        notice_language=notice_language.value,
        evidence=(evidence or "") if given else "",
    )


def _invalid(name: str, detail: str) -> InvalidError:
    return InvalidError([FieldError(f"/{name}", detail, "query")])


class ImportProgress(BaseModel):
    """Bytes of the file while it is planned, rows while the plan is applied. `waits_until` is when it goes
    on, while it waits because imports have welcomed as many members as the hour allows."""

    done: int
    total: int | None
    waits_until: datetime | None


class ImportPlan(BaseModel):
    """The plan: what applying would do, in rows. `fields` counts the fields that change, `reasons` why rows
    are refused, `notes` what was left out of rows that are not: `second_number`, and `consent_blank` for new
    members who get no consent because that column is blank. `by_district` has the outcomes per district.
    `welcomed` are the new members who would get a welcome, and `welcoming_seconds` is how long applying takes
    because of them, if no other import welcomes anybody meanwhile.
    """

    new: int
    changed: int
    unchanged: int
    duplicate: int
    refused: int
    fields: dict[str, int]
    reasons: dict[str, int]
    notes: dict[str, int]
    by_district: dict[str, dict[str, int]]
    welcomed: int
    welcoming_seconds: int


class ImportApplied(BaseModel):
    """Rows that were applied so far. Those `set_aside` were not, because somebody changed the member, or
    registered or left under the phone, since the plan; they are among the errors."""

    created: int
    updated: int
    set_aside: int


class ImportOut(BaseModel):
    """An import. `columns` are the fields that the file's columns are taken for, in their order; null is one
    that is ignored. `plan_job` and `apply_job` can be paused, resumed and cancelled under `/v1/jobs`.

    `encoding`, `delimiter` and `lines_begin` (the line of the first row) say how the file is read.
    """

    id: str
    state: Literal["planning", "planned", "applying", "applied", "paused", "failed", "cancelled", "expired"]
    reason: str | None
    unit: str
    requested_by: str
    created_at: datetime
    planned_at: datetime | None
    applied_at: datetime | None
    format: str
    encoding: str
    delimiter: str | None
    columns: list[str | None]
    default_unit: str | None
    announce: Literal["none", "welcome"]
    consents: list[str]
    notice: str | None
    evidence: str | None
    progress: ImportProgress
    plan: ImportPlan
    applied: ImportApplied
    plan_job: str
    apply_job: str | None


class ChangeShown(BaseModel):
    """A field's value before and after; null for those of a contact, of which only the fact is shown."""

    field: str
    before: str | int | None
    after: str | int | None


class PlannedShown(BaseModel):
    """A row of the file that applying the plan would write. A new member's `id` is the one it will have."""

    line: int
    outcome: Literal["new", "changed"]
    id: str
    unit: str | None
    changes: list[ChangeShown]


def import_view(found: Import) -> dict[str, Any]:
    """The values of an `ImportOut`."""
    document, job = found.document, found.apply or found.plan
    form, terms = document["form"], document["terms"]
    return {
        "id": found.id,
        "state": found.state,
        "reason": job.reason if job else None,
        "unit": document["unit"],
        "requested_by": document["by"],
        "created_at": document["at"],
        "planned_at": document.get("planned_at"),
        "applied_at": document.get("applied_at"),
        "format": form["kind"],
        "encoding": form["encoding"],
        "delimiter": form["delimiter"] if form["kind"] == "csv" else None,
        "columns": document["fields"],
        "default_unit": terms["unit"],
        "announce": "welcome" if terms["announce"] else "none",
        "consents": [":".join(each) for each in terms["consents"]],
        "notice": terms["notice"] or None,
        "evidence": terms["evidence"] or None,
        "progress": {
            "done": job.done if job else 0,
            "total": job.total if job else None,
            "waits_until": job.rests_until if job else None,
        },
        "plan": _plan(document, found.announcing),
        "applied": {word: document.get("applied", {}).get(word, 0) for word in ImportApplied.model_fields},
        "plan_job": found.id,
        "apply_job": document["apply_job"],
    }


def _plan(document: Mapping[str, Any], announcing: timedelta) -> dict[str, Any]:
    return {
        **{word: document["counts"].get(word, 0) for word in OUTCOMES},
        "fields": document.get("fields_changed", {}),
        "reasons": document.get("refused", {}),
        "notes": document.get("notes", {}),
        "by_district": document.get("districts", {}),
        "welcomed": document.get("welcomed", 0),
        "welcoming_seconds": round(announcing.total_seconds()),
    }


def planned_view(row: PlannedRow) -> dict[str, Any]:
    """The values of a `PlannedShown`, without any contact."""
    shown = [
        {
            "field": name,
            "before": row.before.get(name),
            "after": row.values.get(name) if name in row.before else None,
        }
        for name in row.changed
    ]
    outcome = "changed" if row.version else "new"
    return {
        "line": row.line,
        "outcome": outcome,
        "id": row.id,
        "unit": row.values.get("unit"),
        "changes": shown,
    }
