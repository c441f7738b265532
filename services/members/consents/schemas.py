"""Requests and answers about consents and notices."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Strict, StringConstraints, WithJsonSchema

from services.members.consents.domain import Given
from services.members.consents.service import Ledger, Proof
from services.members.core.domain import MERGE, MERGE_UNDONE, Consent
from services.members.core.ledger import LedgerEntry
from services.members.core.notices import Notice
from services.members.core.schemas import ConsentShown, Evidence, Label, RequestBody
from services.shared.contracts.vocabulary import Language
from services.shared.database import as_dict
from services.shared.text import refuse

MAX_NOTICE: Final = 20_000
_consent: Final = as_dict(Consent)
_entry: Final = as_dict(LedgerEntry)
_notice: Final = as_dict(Notice)


def _text(value: object) -> object:
    """The text as it is shown: NFC, with line feeds, without other control characters."""
    if not isinstance(value, str):
        return value
    if len(value) > 2 * MAX_NOTICE:
        raise refuse(f"must have at most {MAX_NOTICE:,} characters")
    text = unicodedata.normalize("NFC", value.replace("\r\n", "\n")).strip()
    if any(unicodedata.category(char) in ("Cc", "Cs") and char != "\n" for char in text):
        raise refuse("must not contain control characters")
    if not text:
        raise refuse("must not be empty")
    if len(text) > MAX_NOTICE:
        raise refuse(f"must have at most {MAX_NOTICE:,} characters")
    return text


def _by_a_person(value: str) -> str:
    if value in (MERGE, MERGE_UNDONE):
        raise refuse("must say how the person said it")
    return value


Source = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]{0,31}$"), AfterValidator(_by_a_person)]
NoticeText = Annotated[
    str,
    BeforeValidator(_text),
    Strict(),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NOTICE}),
]
STAFF: Final = "staff"
"""The source of what a caller records for somebody without saying how it was said."""


class ConsentIn(RequestBody):
    """A consent that somebody gave. `notice` and `language` name the registered text that they were shown,
    `evidence` where the proof is kept (a form's number, a call's id), `source` how they said it."""

    notice: Label
    language: Language
    evidence: Evidence
    source: Source = STAFF

    def given(self, purpose: str, channel: str) -> Given:
        return Given(
            purpose=purpose,
            channel=channel,
            notice=self.notice,
            language=self.language,
            source=self.source,
            evidence=self.evidence,
        )


class NoticeIn(RequestBody):
    text: NoticeText


class NoticeShown(BaseModel):
    """A text that is shown for consent; `sha256` is of its UTF-8 bytes, in hex."""

    version: str
    language: str
    text: str
    sha256: str
    registered_by: str
    registered_at: datetime


class EntryShown(ConsentShown):
    """One change: the consent after it. Consents of a registration have no `actor` and no `evidence`;
    `notice_sha256` is null if the notice was not registered then."""

    sequence: int
    notice_sha256: str | None
    actor: str | None
    evidence: str | None


class LedgerShown(BaseModel):
    """`state` are the consents as they are now, `items` all changes, the oldest first."""

    member_id: str
    state: list[ConsentShown]
    items: list[EntryShown]


class ProofShown(LedgerShown):
    """The ledger with the notices that it names; one registered after a consent proves less than one before
    it."""

    made_at: datetime
    notices: list[NoticeShown]


def consent_view(consent: Consent) -> dict[str, Any]:
    return _consent(consent)


def notice_view(notice: Notice) -> dict[str, Any]:
    return _notice(notice)


def ledger_view(ledger: Ledger) -> dict[str, Any]:
    items = [_entry(entry) for entry in ledger.entries]
    for item in items:
        del item["member_id"]
    return {
        "member_id": ledger.member.id,
        "state": [_consent(consent) for consent in ledger.member.consents],
        "items": items,
    }


def proof_view(proof: Proof) -> dict[str, Any]:
    notices = [_notice(notice) for notice in proof.notices]
    return {**ledger_view(proof.ledger), "made_at": proof.made_at, "notices": notices}
