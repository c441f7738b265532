"""Requests and answers about grievances."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, model_validator

from services.members.core.schemas import LongText, MemberId, RequestBody
from services.members.grievances.domain import Grievance, Kind
from services.members.grievances.service import Shown
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.body import ABSENT
from services.shared.text import refuse


class GrievanceIn(RequestBody):
    """A grievance of a member, or of somebody else in a unit: one of `member_id` and `unit` is given."""

    member_id: MemberId | None = None
    unit: UnitCode | None = None
    kind: Kind
    text: LongText

    @model_validator(mode="after")
    def _is_of_one(self) -> Self:
        if (self.member_id is None) == (self.unit is None):
            raise refuse("give one of `member_id` and `unit`")
        return self


class GrievanceChange(RequestBody):
    """A merge patch: an `answer` makes it answered; `state` closed ends it."""

    answer: LongText = ABSENT
    state: Literal["closed"] = ABSENT


class GrievanceListed(BaseModel):
    """A grievance without its words. `due_at` is by when it has to have an answer."""

    id: str
    member_id: str | None
    unit: str
    kind: str
    state: str
    opened_at: datetime
    opened_by: str
    due_at: datetime
    answered_at: datetime | None
    closed_at: datetime | None
    changed_at: datetime
    changed_by: str
    version: int


class GrievanceShown(GrievanceListed):
    text: str
    answer: str | None


def listed_view(grievance: Grievance) -> dict[str, Any]:
    return {name: getattr(grievance, name) for name in GrievanceListed.model_fields}


def grievance_view(shown: Shown) -> dict[str, Any]:
    return {**listed_view(shown.grievance), "text": shown.words.text, "answer": shown.words.answer}
