"""Filters of a list, and the contacts that other services resolve."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.members.core.domain import Contact, Member, Status
from services.members.core.schemas import MemberId, RequestBody
from services.members.directory.store import Search
from services.shared.contracts.vocabulary import Gender, Language, Platform, UnitCode
from services.shared.text import refuse, words

MAX_RESOLVED: Final = 500


class Ids(RequestBody):
    ids: Annotated[list[MemberId], Field(min_length=1, max_length=MAX_RESOLVED)]


class SearchParams(BaseModel):
    """Filters of a list; all must match."""

    model_config = ConfigDict(use_enum_values=True, hide_input_in_errors=True)

    unit: Annotated[UnitCode | None, Field(description="The unit and all below it.")] = None
    role: Annotated[str | None, Field(pattern="^[a-z_]{1,40}$")] = None
    gender: Gender | None = None
    language: Language | None = None
    platform: Platform | None = None
    status: Status | None = None
    q: Annotated[str | None, Field(max_length=100, description="The start of any word of the name.")] = None

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


class ConsentGiven(BaseModel):
    """A purpose for which the member may be written to now, and the channel."""

    purpose: str
    channel: str


class ContactShown(BaseModel):
    """A member to write to, by the `status`, `unit` and `consents` here and not by those of events."""

    id: str
    name: str
    phone: str
    email: str | None
    language: str
    status: str
    unit: str
    consents: list[ConsentGiven]


class Resolved(BaseModel):
    """`missing` are ids of nobody in the caller's subtree, or of members whose contact cannot be opened."""

    items: list[ContactShown]
    missing: list[str]


def contact_view(member: Member, contact: Contact) -> dict[str, Any]:
    """The values of a `ContactShown`: all that another service needs to write to a member."""
    return {
        "id": member.id,
        "name": member.name,
        "phone": contact.phone,
        "email": contact.email,
        "language": member.language,
        "status": member.status,
        "unit": member.unit,
        "consents": [
            {"purpose": c.purpose, "channel": c.channel} for c in member.consents if c.state == "given"
        ],
    }
