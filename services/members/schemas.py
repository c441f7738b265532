"""What callers send and see, and the domain's values made of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from services.members.domain import Application, Changes, Contact, Status
from services.members.phones import normalise
from services.members.store import Search
from services.shared.contracts.vocabulary import Channel, Gender, Language, Platform, Purpose, UnitCode
from services.shared.http.body import Body
from services.shared.text import Name, ShortText, clean, refuse, words

MAX_RESOLVED: Final = 500
_SHORT: Final = 100
_EMAIL_LIMIT: Final = 254  # RFC 5321, 4.5.3.1.3, less the angle brackets
_LABEL: Final = r"(?!-)[^\s!-,./:-@\[-`{-~]{1,63}(?<!-)"
_EMAIL: Final = re.compile(rf'[^\s@"(),:;<>\[\]\\]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}')
_UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def _email(typed: str) -> str:
    """The address with its domain in lower case. Only its shape is checked: that mail arrives is known once it has."""
    text = clean(typed) if len(typed) <= 2 * _EMAIL_LIMIT else ""
    if len(text) > _EMAIL_LIMIT or not _EMAIL.fullmatch(text):
        raise refuse("is not an e-mail address")
    mailbox, _, domain = text.rpartition("@")
    return f"{mailbox}@{domain.lower()}"


def _short(text: str) -> str:
    if len(text) > _SHORT:
        raise refuse(f"must have at most {_SHORT} characters")
    return text


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
MemberId = Annotated[str, StringConstraints(pattern=_UUID), AfterValidator(str.lower)]
BirthYear = Annotated[int, Strict(), Field(ge=1900, le=2100)]
Label = Annotated[ShortText, AfterValidator(_short)]


class _Request(Body):
    model_config = ConfigDict(use_enum_values=True)


class Handle(_Request):
    """The name under which a person is active on a platform."""

    platform: Platform
    handle: Label


class GivenConsent(_Request):
    """`notice` is the version of the text that the person was shown, `language` the one it was shown in."""

    purpose: Purpose
    channel: Channel
    notice: Label
    language: Language


def _one_each(handles: tuple[Handle, ...]) -> tuple[Handle, ...]:
    if len({handle.platform for handle in handles}) < len(handles):
        raise refuse("names a platform twice")
    return handles


def _one_consent_each(consents: tuple[GivenConsent, ...]) -> tuple[GivenConsent, ...]:
    if len({(c.purpose, c.channel) for c in consents}) < len(consents):
        raise refuse("names a purpose and channel twice")
    return consents


Handles = Annotated[tuple[Handle, ...], Field(max_length=len(Platform)), AfterValidator(_one_each)]
Consents = Annotated[
    tuple[GivenConsent, ...], Field(max_length=len(Purpose) * len(Channel)), AfterValidator(_one_consent_each)
]


class Registration(_Request):
    """A person to register. Without `consents` the person is recorded and never messaged."""

    name: Name
    phone: Phone
    unit: UnitCode
    gender: Gender = Field(default=Gender.UNDISCLOSED, validate_default=True)
    language: Language = Field(default=Language.HINDI, validate_default=True)
    email: Email | None = None
    birth_year: BirthYear | None = None
    platforms: Handles = ()
    inviter_id: MemberId | None = None
    consents: Consents = ()

    def application(self) -> Application:
        return Application(
            name=self.name,
            unit=self.unit,
            contact=Contact(self.phone, self.email, _by_platform(self.platforms)),
            gender=self.gender,
            language=self.language,
            birth_year=self.birth_year,
            inviter_id=self.inviter_id,
            consents=tuple((c.purpose, c.channel, c.notice, c.language) for c in self.consents),
        )


class Patch(_Request):
    """A JSON merge patch (RFC 7396): what is absent stays, null removes what is optional."""

    name: Name = ""
    phone: Phone = ""
    gender: Gender | None = None
    language: Language | None = None
    email: Email | None = None
    birth_year: BirthYear | None = None
    platforms: Handles | None = None

    def changes(self) -> Changes:
        """null sets gender and language back to what they are when never given."""
        given = self.model_fields_set
        return Changes(
            name=self.name or None,
            phone=self.phone or None,
            gender=(self.gender or Gender.UNDISCLOSED.value) if "gender" in given else None,
            language=(self.language or Language.HINDI.value) if "language" in given else None,
            email=self.email,
            birth_year=self.birth_year,
            handles=_by_platform(self.platforms or ()) if "platforms" in given else None,
            removed=frozenset(
                name for name in ("email", "birth_year") if name in given and getattr(self, name) is None
            ),
        )


class Move(_Request):
    unit: UnitCode


class Ids(_Request):
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


_PLATFORMS = tuple(platform.value for platform in Platform)


def _by_platform(handles: Iterable[Handle]) -> dict[str, str]:
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
    """Documents the answers; they are written by `views`. Without `contacts:read` there is no phone, e-mail, handle."""

    id: str
    name: str
    phone: str | None = None
    email: str | None = None
    unit: str
    gender: str
    language: str
    birth_year: int | None
    platforms: list[HandleShown]
    roles: list[RoleShown]
    consents: list[ConsentShown]
    status: str
    inviter_id: str | None
    joined_at: datetime
    updated_at: datetime
    version: int


class ContactShown(BaseModel):
    id: str
    name: str
    phone: str
    email: str | None
    language: str
    status: str
    unit: str


class Resolved(BaseModel):
    """`missing` are the ids of nobody, or of nobody in the caller's subtree."""

    items: list[ContactShown]
    missing: list[str]
