"""Requests that change a member."""

from __future__ import annotations

from services.members.core.schemas import (
    BirthYear,
    Email,
    Handles,
    Phone,
    RequestBody,
    handles_by_platform,
)
from services.members.profile.domain import Changes
from services.shared.contracts.vocabulary import Gender, Language, UnitCode
from services.shared.text import Name


class Patch(RequestBody):
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
            handles=handles_by_platform(self.platforms or ()) if "platforms" in given else None,
            removed=frozenset(
                name for name in ("email", "birth_year") if name in given and getattr(self, name) is None
            ),
        )


class Move(RequestBody):
    unit: UnitCode
