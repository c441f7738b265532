"""Filters of the record of reads, and its items."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.members.core.schemas import MemberId
from services.members.reads.store import Position, ReadItem, ReadSearch
from services.shared.http.pagination import Position as Cursor
from services.shared.http.values import Timestamp
from services.shared.text import refuse


class ReadParams(BaseModel):
    """Filters of the record; all must match."""

    model_config = ConfigDict(hide_input_in_errors=True)

    subject: Annotated[
        str | None, Field(min_length=1, max_length=255, description="Who read: the subject of a token.")
    ] = None
    member: Annotated[MemberId | None, Field(description="Whose data was read.")] = None
    via: Annotated[
        str | None, Field(pattern="^[a-z_]{1,40}$", description="How: get, list, export, resolve, ...")
    ] = None
    since: Annotated[Timestamp | None, Field(alias="from", description="The first moment.")] = None
    until: Annotated[Timestamp | None, Field(alias="to", description="The first moment after.")] = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.since and self.until and self.since >= self.until:
            raise refuse("`from` must be before `to`")
        return self

    def search(self) -> ReadSearch:
        return ReadSearch(**{name: getattr(self, name) for name in ReadSearch.__slots__})

    def filters(self) -> dict[str, Any]:
        """The part that a cursor belongs to."""
        return self.model_dump()


class ReadShown(BaseModel):
    """A member whose contact was shown in one read. `member_id` is null where the read was of something else,
    which `about` names, such as `import:<id>` for the refused rows of an import."""

    read_id: str
    at: datetime
    subject: str
    via: str
    member_id: str | None
    about: str | None
    request_id: str


def position_of(after: Cursor | None) -> Position | None:
    return None if after is None else Position(*after)


def read_view(item: ReadItem) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ReadShown.model_fields}
