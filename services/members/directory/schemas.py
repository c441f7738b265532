"""Filters of a list, and the contacts that other services resolve."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.members.core.domain import Contact, Member, Status, is_adult
from services.members.core.schemas import MemberId, MemberShown, RequestBody
from services.members.directory.store import COUNTED, Search
from services.shared.contracts.vocabulary import Gender, Language, Platform, Purpose, UnitCode
from services.shared.http.pagination import Page
from services.shared.text import refuse, words

MAX_RESOLVED: Final = 500


class Ids(RequestBody):
    ids: Annotated[list[MemberId], Field(min_length=1, max_length=MAX_RESOLVED)]


class Filters(BaseModel):
    """Filters of a list; all must match."""

    model_config = ConfigDict(use_enum_values=True, hide_input_in_errors=True)

    unit: Annotated[UnitCode | None, Field(description="The unit and all below it.")] = None
    role: Annotated[str | None, Field(pattern="^[a-z_]{1,40}$")] = None
    gender: Gender | None = None
    language: Language | None = None
    platform: Platform | None = None
    status: Status | None = None
    q: Annotated[
        str | None,
        Field(max_length=100, description="Words of the name or their beginnings, in any script."),
    ] = None

    @field_validator("q")
    @classmethod
    def _has_words(cls, q: str | None) -> str | None:
        if q is not None and not words(q):
            raise refuse("must contain a letter or a digit")
        return q

    def search(self) -> Search:
        return Search(
            root=self.unit,
            role=self.role,
            gender=self.gender,
            language=self.language,
            platform=self.platform,
            status=self.status,
            words=words(self.q or ""),
        )


class ExportFormat(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"


class Order(StrEnum):
    JOINED = "joined"
    RELEVANCE = "relevance"


class SearchParams(Filters):
    """`joined` lists all whose names begin with the words of `q`, and after the last of them, if the page has
    room, up to 50 whose names sound like it. `relevance` answers one page: the best of both."""

    order: Annotated[
        Order, Field(description="`relevance` needs `q`, and answers one page of the best matches.")
    ] = Order.JOINED
    count: Annotated[
        bool, Field(description=f"Whether to count all matches (of `q`: by beginnings) up to {COUNTED}.")
    ] = False

    @model_validator(mode="after")
    def _ranks_names(self) -> Self:
        if self.order == Order.RELEVANCE and self.q is None:
            raise refuse("order=relevance needs q")
        return self

    def filters(self) -> dict[str, Any]:
        """The part that a cursor belongs to."""
        return self.model_dump(exclude={"order", "count"})


class ExportParams(Filters):
    """Filters of an export, and its format."""

    format: Annotated[ExportFormat, Field(description="CSV has a byte order mark, for spreadsheets.")] = (
        ExportFormat.CSV
    )


class Total(BaseModel):
    """How many members match: exactly, or more than `count` if `exact` is false."""

    count: int
    exact: bool

    @classmethod
    def of(cls, counted: int) -> Total:
        return cls(count=min(counted, COUNTED), exact=counted <= COUNTED)


class MemberPage(Page[MemberShown]):
    """`total` is only there if it was asked for."""

    total: Total | None = None


class ConsentGiven(BaseModel):
    """A purpose for which the member may be written to now, and the channel."""

    purpose: str
    channel: str


class ContactShown(BaseModel):
    """A member to write to, by the `status`, `unit` and `consents` here and not by those of events. Without
    `own_number` nobody is to be written to: there is neither phone (empty), e-mail nor consent."""

    id: str
    name: str
    phone: str
    email: str | None
    language: str
    status: str
    unit: str
    consents: list[ConsentGiven]
    own_number: bool
    preferred_channel: str | None = None
    minor: bool = Field(default=False, description="Whether it is not sure that the person is of age.")


class Resolved(BaseModel):
    """`missing` are ids of nobody in the caller's subtree, or of members whose contact cannot be opened."""

    items: list[ContactShown]
    missing: list[str]


def contact_view(member: Member, contact: Contact, now: datetime) -> dict[str, Any]:
    """The values of a `ContactShown`: all that another service needs to write to a member. Whoever came with
    an import that announced nothing is not welcomed, whatever they consented to."""
    return {
        "id": member.id,
        "name": member.name,
        "phone": contact.phone,
        "email": contact.email if member.own_number else None,
        "language": member.language,
        "status": member.status,
        "unit": member.unit,
        "consents": [
            {"purpose": c.purpose, "channel": c.channel}
            for c in member.consents
            if member.own_number
            and c.state == "given"
            and (c.purpose != Purpose.WELCOME or member.announced is not False)
        ],
        "own_number": member.own_number,
        "preferred_channel": member.preferred_channel,
        "minor": is_adult(member, now) is False,
    }
