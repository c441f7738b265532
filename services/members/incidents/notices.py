"""Drafts of the notices of an incident, made from its record by the templates `<to>.<language>.j2`.

Nothing is sent: a person completes a draft and sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from services.members.incidents.domain import Duty, Incident, Words

DIRECTORY: Final = Path(__file__).with_name("templates")
DRAFTS: Final = (
    (Duty.CERT_IN, "en"),
    (Duty.BOARD_NOTICE, "en"),
    (Duty.BOARD_REPORT, "en"),
    (Duty.PERSONS, "hi"),
    (Duty.PERSONS, "en"),
)
_INDIA: Final = timezone(timedelta(hours=5, minutes=30))


@dataclass(frozen=True, slots=True)
class Draft:
    """`complete`: whether the record has all that the notice must say."""

    duty: str
    language: str
    text: str
    complete: bool


class Notices:
    def __init__(self) -> None:
        # Autoescape is for HTML; these are plain text. The sandbox, because people typed the words.
        machine = SandboxedEnvironment(
            loader=FileSystemLoader(DIRECTORY), undefined=StrictUndefined, autoescape=False, trim_blocks=True
        )
        machine.filters["time"] = _time
        self._templates = {
            (duty, language): machine.get_template(f"{duty.value}.{language}.j2") for duty, language in DRAFTS
        }

    def drafts(self, incident: Incident, words: Words, affected: int | None) -> Sequence[Draft]:
        """A draft for each notice; what the record does not say is a gap in brackets."""
        return [self._draft(*each, incident, words, affected) for each in DRAFTS]

    def _draft(
        self, duty: Duty, language: str, incident: Incident, words: Words, affected: int | None
    ) -> Draft:
        gaps = {
            "affected": "[…]" if affected is None else str(affected),
            "consequences": words.consequences or "[…]",
            "measures": words.measures or "[…]",
            "advice": words.advice or "[…]",
            "contact": words.contact or "[…]",
        }
        persons_told = incident.done_of(Duty.PERSONS)
        text = self._templates[duty, language].render(
            gaps,
            title=words.title,
            what=words.what,
            detected_at=incident.detected_at,
            persons_told_at=persons_told.at if persons_told else None,
            reference=incident.id,
        )
        return Draft(duty.value, language, text.strip(), "[…]" not in text)


def _time(moment: datetime | None) -> str:
    """`27.11.2026, 15:00 (IST)`"""
    return f"{moment.astimezone(_INDIA):%d.%m.%Y, %H:%M} (IST)" if moment else "[…]"
