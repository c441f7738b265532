"""A roster, and the members on it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, Strict

from services.members.core.schemas import RequestBody
from services.members.matching.service import Match, MatchProblem
from services.shared.contracts.vocabulary import UnitCode

MAX_PHONES: Final = 1000


class Roster(RequestBody):
    """`phones` are entries as people's phones list them; one may have several numbers of one person."""

    unit: UnitCode
    phones: Annotated[list[Annotated[str, Strict()]], Field(min_length=1, max_length=MAX_PHONES)]


class MatchShown(BaseModel):
    """The member who has the number, or the `problem`: `stranger` (no active member of the unit has it),
    `several` (the entry has numbers of several members) or `unreadable` (it has no number)."""

    member_id: str | None
    problem: MatchProblem | None


class Matched(BaseModel):
    """An item for each phone, in the order sent."""

    items: list[MatchShown]


def match_view(match: Match) -> dict[str, Any]:
    return {"member_id": match.member_id, "problem": match.problem}
