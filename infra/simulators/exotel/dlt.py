"""The DLT registry of the Indian operators: entities, headers, content templates.

Source: TCCCPR 2018 and the operators' DLT portals, as in the project's facts of the field, B: a text must
equal its registered template outside `{#var#}`; a variable holds 30 characters by custom.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

VARIABLE: Final = "{#var#}"
VARIABLE_LENGTH: Final = 30
SUFFIXES: Final = ("-P", "-S", "-T", "-G")
"""Letters that an operator adds to a header since February 2025."""


@dataclass(slots=False)
class DltTemplate:
    """A registered text. `header` is the sender id that it is linked to; None for any of the entity's."""

    id: str
    text: str
    header: str | None = None
    kind: str = "transactional"
    approved: bool = True

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = [re.escape(part) for part in self.text.split(VARIABLE)]
        return re.compile(f"(.{{0,{VARIABLE_LENGTH}}})".join(parts) + r"\Z", re.DOTALL)

    def matches(self, text: str) -> bool:
        return self._pattern.match(text) is not None


class Dlt:
    """The registered entities, headers and templates. `strict` False lets every text pass, as abroad."""

    def __init__(
        self,
        entities: Iterable[str] = (),
        headers: Iterable[str] = (),
        templates: Iterable[DltTemplate] = (),
        *,
        strict: bool = True,
    ) -> None:
        self.entities, self.headers = set(entities), set(headers)
        self.templates = {template.id: template for template in templates}
        self.strict = strict
        self.dnd: set[str] = set()
        """Numbers on the Do Not Disturb registry (E.164)."""
        self.without_consent: set[str] = set()

    def add(self, template: DltTemplate) -> None:
        self.templates[template.id] = template

    def check(self, *, entity: str, header: str, template_id: str | None) -> str | None:
        """The `Code` of a refusal for something that is not registered, or None."""
        if not self.strict:
            return None
        if not self.knows_header(header):
            return "INVALID_SENDER"
        if entity not in self.entities:
            return "INVALID_DLT_ENTITY"
        if template_id is not None:
            template = self.templates.get(template_id)
            if template is None or not template.approved:
                return "INVALID_DLT_TEMPLATE"
        return None

    def scrub(self, *, header: str, template_id: str | None, text: str) -> str | None:
        """The `DetailedStatus` with which the platform blocks a message, or None."""
        if not self.strict:
            return None
        if template_id is None:  # Exotel looks for a registered template that fits
            found = next((each for each in self.templates.values() if each.matches(text)), None)
        else:
            found = self.templates.get(template_id)
        if found is None or not found.matches(text):
            return "FAILED_DLT_TEMPLATE"
        if found.header is not None and found.header != bare(header):
            return "FAILED_DLT_SCRUBBING"
        return None

    def knows_header(self, header: str) -> bool:
        return bare(header) in self.headers


def bare(header: str) -> str:
    """A header without the suffix that an operator adds."""
    return header[:-2] if header.endswith(SUFFIXES) else header
