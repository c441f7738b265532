"""Fields that several requests have, and a member as answers show it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    WithJsonSchema,
)

from services.members.core.domain import Contact, Member
from services.members.core.phones import normalise
from services.shared.clock import to_milliseconds
from services.shared.contracts.vocabulary import EARLIEST, Platform
from services.shared.database import as_dict
from services.shared.http.body import Body
from services.shared.http.values import Canonical, Timestamp
from services.shared.text import ShortText, clean, refuse

View: TypeAlias = dict[str, Any]

_SHORT: Final = 100
MAX_TEXT: Final = 5000
_EMAIL_LIMIT: Final = 254  # RFC 5321, 4.5.3.1.3, less the angle brackets
_LABEL: Final = r"(?!-)[^\s!-,./:-@\[-`{-~]{1,63}(?<!-)"
_EMAIL: Final = re.compile(rf'[^\s@"(),:;<>\[\]\\]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}')
_DIGITS: Final = re.compile(r"\d")
_PHONE_DIGITS: Final = 10
_UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_PLATFORMS: Final = tuple(platform.value for platform in Platform)
_values: Final = as_dict(Member)


def _email(typed: str) -> str:
    """The address with its domain in lower case. Only its shape is checked, not that mail arrives."""
    text = clean(typed) if len(typed) <= 2 * _EMAIL_LIMIT else ""
    if len(text) > _EMAIL_LIMIT or not _EMAIL.fullmatch(text):
        raise refuse("is not an e-mail address")
    mailbox, _, domain = text.rpartition("@")
    return f"{mailbox}@{domain.lower()}"


def _short(text: str) -> str:
    if len(text) > _SHORT:
        raise refuse(f"must have at most {_SHORT} characters")
    return text


def _long(value: object) -> object:
    """Text of several lines: NFC, without control characters."""
    if not isinstance(value, str):
        return value
    if len(value) > 2 * MAX_TEXT:
        raise refuse(f"must have at most {MAX_TEXT:,} characters")
    text = "\n".join(map(clean, value.splitlines())).strip()
    if not text:
        raise refuse("must not be empty")
    if len(text) > MAX_TEXT:
        raise refuse(f"must have at most {MAX_TEXT:,} characters")
    return text


def _reference(text: str) -> str:
    """Evidence is kept in the clear, so it must be a reference and not what it refers to."""
    if len(_DIGITS.findall(text)) >= _PHONE_DIGITS or "@" in text:
        raise refuse("must be a reference to a record of yours, not a phone number or an address")
    return text


Evidence = Annotated[ShortText, AfterValidator(_reference), StringConstraints(max_length=100)]
Phone = Annotated[
    str,
    AfterValidator(normalise),
    Strict(),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 64,
            "description": "E.164, or as dialled in India.",
            "examples": ["+919812345678"],
        }
    ),
]
Email = Annotated[
    str, AfterValidator(_email), Strict(), WithJsonSchema({"type": "string", "format": "email"})
]
MemberId = Annotated[str, StringConstraints(pattern=_UUID), Canonical]
BirthYear = Annotated[int, Strict(), Field(ge=1900, le=2100)]
Label = Annotated[ShortText, AfterValidator(_short)]
LongText = Annotated[
    str,
    BeforeValidator(_long),
    Strict(),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_TEXT}),
]
"""Some paragraphs, each line cleaned as all text is."""
Moment = Annotated[Timestamp, Field(ge=EARLIEST), AfterValidator(to_milliseconds)]
"""A time that is kept, which MongoDB does to the millisecond."""


class RequestBody(Body):
    model_config = ConfigDict(use_enum_values=True)


class Handle(RequestBody):
    """The name under which a person is active on a platform."""

    platform: Platform
    handle: Label


def _one_each(handles: tuple[Handle, ...]) -> tuple[Handle, ...]:
    if len({handle.platform for handle in handles}) < len(handles):
        raise refuse("names a platform twice")
    return handles


Handles = Annotated[tuple[Handle, ...], Field(max_length=len(Platform)), AfterValidator(_one_each)]


def handles_by_platform(handles: Iterable[Handle]) -> dict[str, str]:
    """In the order of the vocabulary, so that the order typed makes no difference."""
    typed: dict[str, str] = {handle.platform: handle.handle for handle in handles}
    return {platform: typed[platform] for platform in _PLATFORMS if platform in typed}


class HandleShown(BaseModel):
    platform: str
    handle: str | None = None


class ConsentShown(BaseModel):
    purpose: str
    channel: str
    notice: str
    language: str
    at: datetime
    source: str
    state: str


class RoleShown(BaseModel):
    role: str
    unit: str


class MemberShown(BaseModel):
    """A member. Answers to callers without `contacts:read` lack phone, e-mail and handles."""

    id: str
    name: str
    phone: str | None = None
    email: str | None = None
    unit: str
    gender: str
    language: str
    birth_year: int | None
    preferred_channel: str | None = None
    platforms: list[HandleShown]
    roles: list[RoleShown]
    consents: list[ConsentShown]
    status: str
    inviter_id: str | None
    origin: str
    merged_into: str | None
    reached_by: str | None = Field(
        description="The member whose number reaches this one, who has none of their own; null once that "
        "member left or was erased."
    )
    joined_at: datetime
    updated_at: datetime
    version: int
    own_number: bool


def member_view(member: Member, contact: Contact | None) -> View:
    """The values of a `MemberShown`; roles and consents are dataclasses, which orjson writes by itself.

    Without a contact, phone and e-mail are left out, and platforms have no handles.
    """
    view: View = {"id": member.id, "name": member.name}
    if contact is not None:
        view["phone"] = contact.phone or None
        view["email"] = contact.email
    view |= _values(member)
    view["origin"] = member.origin or "registration"
    view["reached_by"] = member.reached_by or None
    view["own_number"] = member.own_number
    del view["announced"], view["minor"]
    view["platforms"] = _platforms(member.platforms, contact)
    return view


def _platforms(platforms: Sequence[str], contact: Contact | None) -> list[View]:
    if contact is None:
        return [{"platform": platform} for platform in platforms]
    return [{"platform": platform, "handle": handle} for platform, handle in contact.handles.items()]
