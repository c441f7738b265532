"""Requests that change a member."""

from __future__ import annotations

from services.members.core.changing import Changes
from services.members.core.schemas import (
    BirthYear,
    Email,
    Handles,
    Phone,
    RequestBody,
    handles_by_platform,
)
from services.shared.contracts.vocabulary import Gender, Language, UnitCode
from services.shared.http.body import ABSENT
from services.shared.text import Name


class MemberPatch(RequestBody):
    """A merge patch: null removes what is optional."""

    name: Name = ABSENT
    phone: Phone = ABSENT
    gender: Gender | None = ABSENT
    language: Language | None = ABSENT
    email: Email | None = ABSENT
    birth_year: BirthYear | None = ABSENT
    platforms: Handles | None = ABSENT

    def changes(self) -> Changes:
        """null sets gender and language back to what they are when never given."""
        given = self.model_fields_set
        return Changes(
            name=self.name,
            phone=self.phone,
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
