"""Asking the members service whose numbers a roster has: `POST /v1/members/match` (ADR 41)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from services.shared.contracts.vocabulary import Id
from services.shared.errors import TransientError
from services.shared.peers import Peer

PATH: Final = "/v1/members/match"


class _Match(BaseModel):
    member_id: Id | None
    problem: Annotated[str | None, Field(max_length=40)] = None


class _Matched(BaseModel):
    items: Annotated[list[_Match], Field(max_length=1000)]


async def whose(members: Peer, unit: str, numbers: Sequence[str]) -> tuple[list[str], int]:
    """The members of `unit` and all below it who have these numbers (at most 1,000), and how many entries
    are nobody's.

    Raises: `TransientError`.
    """
    if not numbers:
        return [], 0
    answer = await members.post(PATH, {"unit": unit, "phones": list(numbers)})
    try:
        items = _Matched.model_validate(answer).items
    except ValidationError:  # it quotes the answer
        raise TransientError("members: malformed") from None
    if len(items) != len(numbers):
        raise TransientError("members: malformed")
    found = [item.member_id for item in items if item.member_id is not None]
    return list(dict.fromkeys(found)), sum(item.member_id is None for item in items)
