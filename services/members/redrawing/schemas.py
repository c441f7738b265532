"""HTTP schemas of redrawing."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, Field

from services.members.core.schemas import MemberId, RequestBody
from services.members.redrawing.domain import Refusal
from services.members.redrawing.service import Mapped
from services.shared.contracts.vocabulary import UnitCode
from services.shared.text import refuse

MAX_MAPPED: Final = 500


class MappingIn(RequestBody):
    member_id: MemberId
    unit: UnitCode


def _each_once(items: list[MappingIn]) -> list[MappingIn]:
    if len({item.member_id for item in items}) < len(items):
        raise refuse("a member appears twice")
    return items


class MappingsIn(RequestBody):
    items: Annotated[list[MappingIn], Field(min_length=1, max_length=MAX_MAPPED), AfterValidator(_each_once)]


class RefusedShown(BaseModel):
    member_id: str
    reason: Refusal


class MappedShown(BaseModel):
    moved: int
    unchanged: int
    refused: list[RefusedShown]


class UnmappedShown(BaseModel):
    """A member in `unit`, which there is no more, and the `parts` that it was split into."""

    member_id: str
    unit: str
    parts: list[str]


def mapped_view(mapped: Mapped) -> dict[str, Any]:
    refused = [{"member_id": id_, "reason": reason.value} for id_, reason in mapped.refused.items()]
    return {"moved": mapped.moved, "unchanged": mapped.unchanged, "refused": refused}
