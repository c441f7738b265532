"""Answers about duplicates."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel

from services.members.core.schemas import MemberShown, View, member_view
from services.members.duplicates.domain import Reason
from services.members.duplicates.service import Suggestion
from services.members.duplicates.store import Pair
from services.shared.database import as_dict

_pair: Final = as_dict(Pair)


class PairState(StrEnum):
    OPEN = "open"
    DISMISSED = "dismissed"


class DuplicateShown(BaseModel):
    """Two members who may be one person, without their contacts. `score` is from 0 to 1; `by` is the subject
    who dismissed the pair."""

    id: str
    state: PairState
    score: float
    reasons: list[Reason]
    found_at: datetime
    by: str | None
    dismissed_at: datetime | None
    members: list[MemberShown]


def duplicate_view(suggestion: Suggestion) -> View:
    members = [member_view(member, None) for member in suggestion.members]
    return {**_pair(suggestion.pair), "members": members}
