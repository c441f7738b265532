"""A text of messages, its versions and approvals, and when a message is exactly what was approved. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.notifications.core.channel import Approved
from services.notifications.core.domain import TEMPLATE_NOT_APPROVED, TEMPLATE_NOT_EXACT
from services.notifications.core.templates.catalogue import TEST, UNSUBSCRIBE, known
from services.notifications.core.templates.grammar import faults, segments
from services.shared.contracts.vocabulary import Channel

MAX_TEXT: Final = 2000
"""Characters of a text: what Exotel takes for an SMS."""
MAX_SUBJECT: Final = 200
MAX_HTML: Final = 50_000
VARIABLE: Final = "{#var#}"
"""A place in a text that is registered with DLT (TCCCPR 2018)."""
NAME: Final = r"^[a-z][a-z0-9_]{0,31}$"
SMS_CATEGORIES: Final = ("transactional", "service_implicit", "service_explicit", "promotional")
"""The types of DLT."""
WHATSAPP_CATEGORIES: Final = ("utility", "marketing", "authentication")
_DLT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,20}", re.ASCII)
_PROVIDERS_NAME: Final = re.compile(r"[a-z0-9_]{1,128}", re.ASCII)
_PROVIDERS_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?", re.ASCII)


class Unfit(StrEnum):
    """Why a text cannot go on a channel: reasons to hold a notification."""

    NOT_APPROVED = TEMPLATE_NOT_APPROVED
    """The gateway takes approved templates only, and there is none."""
    NOT_EXACT = TEMPLATE_NOT_EXACT
    """With these values it is not the text that was registered: one of them is too long."""


class ApprovalState(StrEnum):
    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    REJECTED = "rejected"
    PAUSED = "paused"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Approval:
    """A version of a text as it is registered for a channel.

    `name` is the DLT template id, or the provider's name of it. For SMS: `header` if it goes by another than
    the usual one, and `text` as it is registered, with `{#var#}`. For WhatsApp: `language` is the provider's
    code of it, `variables` are the values of its places in their order, which are `numbered` if they have no
    names. A change that the provider tells of counts if it is later than `changed_at`.
    """

    channel: str
    state: ApprovalState
    name: str
    category: str
    changed_at: datetime
    header: str | None = None
    text: str | None = None
    language: str | None = None
    variables: tuple[str, ...] = ()
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of a version. `subject` and `html` are for e-mail, whose plain part then says what `html`
    says."""

    text: str
    subject: str | None = None
    html: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVersion:
    """A version of a text in a language; its words never change. Version 0 is as shipped."""

    id: str
    name: str
    language: str
    version: int
    wording: Wording
    approvals: tuple[Approval, ...] = ()
    created_at: datetime | None = None
    created_by: str | None = None

    def approval(self, channel: str) -> Approval | None:
        return next((each for each in self.approvals if each.channel == channel), None)

    def is_approved(self, channel: str) -> bool:
        approval = self.approval(channel)
        return approval is not None and approval.state is ApprovalState.APPROVED


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text with its values in it. `approved` is there if the channel asks for it."""

    version: int
    language: str
    text: str = field(repr=False)
    approved: Approved | None = None
    subject: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)


def text_id(name: str, language: str, version: int) -> str:
    return f"{name}.{language}.{version}"


def cleaned(text: str) -> str:
    """In one form: lines that end in a line feed, nothing at either end; NFC if it is short, because tens of
    thousands of marks in a row would take seconds."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return unicodedata.normalize("NFC", text) if len(text) <= MAX_TEXT else text


def is_name(name: str) -> bool:
    """Whether it can be the name of a text; the names of tests are taken."""
    return re.fullmatch(NAME, name) is not None and not name.startswith(TEST)


def wording_faults(name: str, wording: Wording) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)"""
    variables = known(name).variables
    if not wording.text:
        yield "text", "must not be empty"
    parts = {"text": wording.text, "subject": wording.subject, "html": wording.html}
    for of, most in {"text": MAX_TEXT, "subject": MAX_SUBJECT, "html": MAX_HTML}.items():
        part = parts[of] or ""
        if len(part) > most:
            yield of, f"must have at most {most:,} characters"
        elif not_printed(part, lines=of != "subject"):
            yield of, "must have no control characters"
        else:
            there = (*variables, UNSUBSCRIBE) if of == "html" else variables
            yield from ((of, fault) for fault in faults(part, there, html=of == "html"))


def not_printed(text: str, *, lines: bool) -> bool:
    """Whether there are characters that no text has: controls, lone surrogates, what is not assigned."""
    allowed = "\n\t" if lines else ""
    return any(c not in allowed and unicodedata.category(c) in ("Cc", "Cs", "Cn", "Co") for c in text)


def approval_faults(version: TextVersion, approval: Approval) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)"""
    if approval.channel == Channel.SMS:
        yield from _sms_faults(version, approval)
    else:
        yield from _whatsapp_faults(version, approval)


def _sms_faults(version: TextVersion, approval: Approval) -> Iterator[tuple[str, str]]:
    if not _DLT_ID.fullmatch(approval.name):
        yield "name", "must be a DLT template id"
    if approval.category not in SMS_CATEGORIES:
        yield "category", f"must be one of {', '.join(SMS_CATEGORIES)}"
    if approval.header is not None and not _HEADER.fullmatch(approval.header):
        yield "header", "must be a DLT header"
    for name in ("language", "variables", "numbered"):
        if getattr(approval, name):
            yield name, "is not for SMS"
    registered = approval.text or ""
    if not registered or len(registered) > MAX_TEXT or not_printed(registered, lines=True):
        yield "text", f"must be the text as it is registered, of at most {MAX_TEXT:,} characters"
    elif segments(version.wording.text) is None:
        yield "text", "cannot be approved for SMS: a text with conditions is several texts"
    elif not is_of(version.wording.text, registered):
        yield "text", f"must equal the text of this version, with {VARIABLE} for each value"


def _whatsapp_faults(version: TextVersion, approval: Approval) -> Iterator[tuple[str, str]]:
    if not _PROVIDERS_NAME.fullmatch(approval.name):
        yield "name", "must be the provider's name: lower-case letters, digits and underscores"
    if approval.category not in WHATSAPP_CATEGORIES:
        yield "category", f"must be one of {', '.join(WHATSAPP_CATEGORIES)}"
    if approval.language is None or not _PROVIDERS_LANGUAGE.fullmatch(approval.language):
        yield "language", "must be the provider's code of the language, such as hi or en_US"
    for name in ("header", "text"):
        if getattr(approval, name) is not None:
            yield name, "is not for WhatsApp"
    there = known(version.name).variables
    if len(set(approval.variables)) < len(approval.variables) or not set(approval.variables) <= set(there):
        yield "variables", f"must be different ones of {', '.join(there)}"


def _merged(parts: Sequence[object]) -> tuple[list[str], list[int]]:
    """The fixed texts, and how many places there are between each two of them. The first or the last text may
    be empty."""
    texts, runs, after_place = [""], list[int](), False
    for part in parts:
        if isinstance(part, str):
            texts[-1] += part
        elif after_place:
            runs[-1] += 1
        else:
            runs.append(1)
            texts.append("")
        after_place = not isinstance(part, str)
    return texts, runs


def _registered(text: str) -> tuple[list[str], list[int]]:
    parts: list[object] = []
    for i, piece in enumerate(text.split(VARIABLE)):
        parts += ([None] if i else []) + ([piece] if piece else [])
    return _merged(parts)


def is_of(text: str, registered: str) -> bool:
    """Whether a checked text is the registered one: equal outside the places, and a place for each value.
    Several places in a row may take one long value."""
    parts = segments(text)
    if parts is None:
        return False
    texts, runs = _merged(parts)
    fixed, places = _registered(registered)
    return texts == fixed and all(mine <= theirs for mine, theirs in zip(runs, places, strict=True))


def is_exact(text: str, registered: str, limit: int) -> bool:
    """Whether a text is the registered one, with at most `limit` characters in each place: what the scrubbers
    of DLT check of each message.

    It follows all positions at which the text so far may end, so no text makes it slow.
    """
    fixed, places = _registered(registered)
    if not text.startswith(fixed[0]):
        return False
    ends = [len(fixed[0])]
    for run, following in zip(places, fixed[1:], strict=True):
        then: list[int] = []
        looked = 0
        for end in ends:  # in their order, so that no position is looked at twice
            begin, stop = max(looked, end), min(end + run * limit, len(text)) + 1
            then += [at + len(following) for at in range(begin, stop) if text.startswith(following, at)]
            looked = max(looked, stop)
        ends = then
    return len(text) in ends


def approved_of(approval: Approval, values: Mapping[str, str]) -> Approved:
    """The template as the gateway is told of it. Raises: `KeyError` when a value is missing."""
    variables = tuple(
        (str(number) if approval.numbered else variable, values[variable])
        for number, variable in enumerate(approval.variables, 1)
    )
    return Approved(approval.name, approval.language or "", approval.category, variables, approval.header)
