"""Requests and answers about incidents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, Field, model_validator

from services.members.core.schemas import Label, LongText, Moment, RequestBody
from services.members.incidents.domain import Duty, Incident, Words
from services.members.incidents.notices import Draft
from services.members.incidents.service import Shown
from services.shared.contracts.vocabulary import UnitCode
from services.shared.database import as_dict
from services.shared.http.body import ABSENT
from services.shared.text import refuse

_words: Final = as_dict(Words)
_draft: Final = as_dict(Draft)


class IncidentIn(RequestBody):
    """`detected_at` is when somebody noticed it: the clocks run from then. What is not known yet can be added
    later. No names of members belong here: they are on the list of the affected."""

    unit: UnitCode
    detected_at: Moment
    title: Label
    what: LongText
    consequences: LongText | None = None
    measures: LongText | None = None
    advice: LongText | None = None
    contact: LongText | None = None

    def words(self) -> Words:
        return Words(**{name: getattr(self, name) for name in Words.__slots__})


class DutiesDone(RequestBody):
    """When a duty was done; null: not done after all."""

    cert_in: Moment | None = ABSENT
    board_notice: Moment | None = ABSENT
    board_report: Moment | None = ABSENT
    persons: Moment | None = ABSENT


class IncidentChange(RequestBody):
    """A merge patch."""

    title: Label = ABSENT
    what: LongText = ABSENT
    consequences: LongText | None = ABSENT
    measures: LongText | None = ABSENT
    advice: LongText | None = ABSENT
    contact: LongText | None = ABSENT
    done: DutiesDone = ABSENT

    def words(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set - {"done"}}

    def marks(self) -> dict[str, datetime | None]:
        if "done" not in self.model_fields_set:
            return {}
        return {name: getattr(self.done, name) for name in self.done.model_fields_set}


class AffectedIn(RequestBody):
    """`reads`: members whose contact the `subject` was shown from `from` to `to`. `members`: those of `unit`
    who joined in that time. Only members within `unit` (the incident's unless given) are listed."""

    by: Literal["reads", "members"]
    subject: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    unit: UnitCode | None = None
    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.by == "reads") != (self.subject is not None):
            raise refuse("`subject` belongs to `reads`, which needs it")
        if self.since and self.until and self.since >= self.until:
            raise refuse("`from` must be before `to`")
        return self


class DutyShown(BaseModel):
    """`due_at` null: without delay. `state`: open, overdue or done."""

    duty: Duty
    due_at: datetime | None
    state: Literal["open", "overdue", "done"]
    done_at: datetime | None
    done_by: str | None


class AffectedQuery(BaseModel):
    """The question whose answer is frozen; `count` is null until the job has taken it all."""

    by: str
    subject: str | None
    unit: str
    since: datetime | None = Field(alias="from")
    until: datetime = Field(alias="to")
    taken_at: datetime
    taken_by: str
    job: str
    count: int | None


class IncidentListed(BaseModel):
    id: str
    unit: str
    detected_at: datetime
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
    duties: list[DutyShown]
    affected: AffectedQuery | None
    version: int


class IncidentShown(IncidentListed):
    title: str
    what: str
    consequences: str | None
    measures: str | None
    advice: str | None
    contact: str | None


class AffectedShown(BaseModel):
    member_id: str


class DraftShown(BaseModel):
    """A draft: a person completes it (gaps are `[…]`) and sends it."""

    duty: Duty
    language: str
    text: str
    complete: bool


class DraftsShown(BaseModel):
    items: list[DraftShown]


def listed_view(incident: Incident, now: datetime) -> dict[str, Any]:
    affected = incident.affected
    query = None
    if affected is not None:
        names = ("by", "subject", "unit", "taken_at", "taken_by", "job", "count")
        query = {name: getattr(affected, name) for name in names}
        query |= {"from": affected.since, "to": affected.until}
    plain = ("id", "unit", "detected_at", "created_at", "created_by", "changed_at", "changed_by", "version")
    return {
        **{name: getattr(incident, name) for name in plain},
        "duties": [_duty_view(incident, duty, now) for duty in Duty],
        "affected": query,
    }


def incident_view(shown: Shown, now: datetime) -> dict[str, Any]:
    return {**listed_view(shown.incident, now), **_words(shown.words)}


def draft_view(draft: Draft) -> dict[str, Any]:
    return _draft(draft)


def _duty_view(incident: Incident, duty: Duty, now: datetime) -> dict[str, Any]:
    done, due_at = incident.done_of(duty), incident.due_at(duty)
    overdue = due_at is not None and due_at < now
    return {
        "duty": duty.value,
        "due_at": due_at,
        "state": "done" if done else "overdue" if overdue else "open",
        "done_at": done.at if done else None,
        "done_by": done.by if done else None,
    }
