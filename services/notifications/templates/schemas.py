"""HTTP schemas of templates."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, Strict, StringConstraints

from services.notifications.core.templates.domain import (
    MAX_HTML,
    MAX_TEXT,
    Approval,
    ApprovalState,
    TextVersion,
    Wording,
    cleaned,
)
from services.notifications.core.templates.prices import PriceChannel
from services.notifications.core.texts import Entry
from services.notifications.templates.domain import Shown
from services.shared.http.body import Body
from services.shared.http.values import Canonical

TextLanguage = Literal["hi", "en", "bho", "mai"]
ApprovedChannel = Literal["sms", "whatsapp"]
Version = Annotated[int, Strict(), Field(ge=0, le=1_000_000)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Subject = Annotated[str, StringConstraints(max_length=200)]
Html = Annotated[str, StringConstraints(max_length=MAX_HTML)]
Variable = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,32}$")]
Value = Annotated[str, StringConstraints(max_length=500)]
MemberId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), Canonical]


class TextIn(Body):
    """A text: plain, with `{{ variable }}` and `{% if variable %}`. `subject` and `html` are for e-mail; the
    styles of the HTML are put to its elements when it is sent, and an e-mail's plain part says what its HTML
    says. `{{ unsubscribe }}` is the address that stops such e-mails: HTML alone may use it."""

    text: Text
    subject: Subject | None = None
    html: Html | None = None


class ApprovalIn(Body):
    """A version of the text as it is registered. `name` is the DLT template id, or the provider's name.

    For SMS: `category` is `transactional`, `service_implicit`, `service_explicit` or `promotional`; `text` is
    the registered text with `{#var#}` for each value; `header` is the sender id, if it is another than the
    usual one. For WhatsApp: `category` is `utility`, `marketing` or `authentication`, `language` the
    provider's code, `variables` the values in the order of the places, `numbered` if these have no names.
    """

    version: Version
    state: ApprovalState
    name: Annotated[str, StringConstraints(max_length=128)]
    category: Annotated[str, StringConstraints(max_length=40)]
    header: Annotated[str, StringConstraints(max_length=20)] | None = None
    text: Text | None = None
    language: Annotated[str, StringConstraints(max_length=10)] | None = None
    variables: Annotated[list[Variable], Field(max_length=20)] = Field(default_factory=list)
    numbered: bool = False


class PreviewIn(Body):
    """`values` replace the samples. With `text`, that is shown instead of what is stored."""

    language: TextLanguage
    values: Annotated[dict[Variable, Value], Field(max_length=20)] = Field(default_factory=dict)
    text: Text | None = None
    subject: Subject | None = None
    html: Html | None = None


class TestIn(Body):
    """A test goes to one member, who must have agreed to such messages on this channel."""

    __test__ = False  # not one of pytest's

    member_id: MemberId
    channel: PriceChannel


class ApprovalOut(BaseModel):
    channel: str
    state: ApprovalState
    name: str
    category: str
    header: str | None
    text: str | None
    language: str | None
    variables: list[str]
    numbered: bool
    changed_at: datetime


class TextVersionOut(BaseModel):
    """Version 0 is as shipped."""

    name: str
    language: str
    version: int
    text: str
    subject: str | None
    html: str | None
    approvals: list[ApprovalOut]
    created_at: datetime | None
    created_by: str | None


class TemplateOut(TextVersionOut):
    """The newest version. `variables` are those that the text may use. `approved` is, by channel, the newest
    version that is approved there: it is used where a gateway takes approved templates only."""

    variables: list[str]
    approved: dict[str, int]


class ShownOut(BaseModel):
    """A text as it would go on a channel. `language` and `version` are those used; `version` is null for a
    text that is not stored. `cost` is that of one message, in `currency`, null without a price. `reason` is
    why it could not go by a gateway that takes approved templates only; `notes` are for people."""

    channel: str
    language: str
    version: int | None
    text: str
    subject: str | None
    html: str | None
    characters: int
    encoding: Literal["gsm7", "ucs2", "utf8"]
    parts: int
    cost: str | None
    currency: str
    reason: str | None
    notes: list[str]


class PreviewOut(BaseModel):
    channels: list[ShownOut]


class TestOut(BaseModel):
    """The notification of a test; its template begins with `test_`."""

    __test__ = False

    id: str


def wording_of(body: TextIn | PreviewIn) -> Wording:
    subject, html = body.subject, body.html
    return Wording(cleaned(body.text or ""), subject and cleaned(subject), html and cleaned(html))


def approval_of(channel: str, body: ApprovalIn, now: datetime) -> Approval:
    return Approval(
        channel=channel,
        state=body.state,
        name=body.name,
        category=body.category,
        changed_at=now,
        header=body.header,
        text=None if body.text is None else cleaned(body.text),
        language=body.language,
        variables=tuple(body.variables),
        numbered=body.numbered,
    )


_OF_APPROVAL: Final = tuple(name for name in ApprovalOut.model_fields if name != "variables")
_OF_VERSION: Final = ("name", "language", "version", "created_at", "created_by")


def version_out(version: TextVersion) -> dict[str, Any]:
    approvals = [
        {name: getattr(each, name) for name in _OF_APPROVAL} | {"variables": list(each.variables)}
        for each in version.approvals
    ]
    wording = version.wording
    words = {"text": wording.text, "subject": wording.subject, "html": wording.html}
    return {name: getattr(version, name) for name in _OF_VERSION} | words | {"approvals": approvals}


def template_out(entry: Entry, variables: tuple[str, ...]) -> dict[str, Any]:
    approved = {channel: text.version.version for channel, text in entry.approved.items()}
    return {**version_out(entry.newest.version), "variables": list(variables), "approved": approved}


def shown_out(shown: Shown, currency: str) -> dict[str, Any]:
    return {
        "channel": shown.channel,
        "language": shown.language,
        "version": shown.version,
        "text": shown.text,
        "subject": shown.subject,
        "html": shown.html,
        "characters": shown.length.characters,
        "encoding": shown.length.encoding,
        "parts": shown.length.parts,
        "cost": None if shown.cost is None else str(shown.cost),
        "currency": currency,
        "reason": shown.reason,
        "notes": list(shown.notes),
    }
