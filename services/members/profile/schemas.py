"""Requests that change a member."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from services.members.core.changing import Changes
from services.members.core.schemas import (
    BirthYear,
    Email,
    Handles,
    MemberId,
    Phone,
    RequestBody,
    handles_by_platform,
)
from services.shared.contracts.vocabulary import Channel, Gender, Language, UnitCode
from services.shared.http.body import ABSENT
from services.shared.text import Name, refuse


class MemberPatch(RequestBody):
    """A merge patch: null removes what is optional. `phone` gives a number to a member who had none of their
    own and was `reached_by` another, whom such a patch may name anew."""

    name: Name = ABSENT
    phone: Phone = ABSENT
    reached_by: MemberId = ABSENT
    gender: Gender | None = ABSENT
    language: Language | None = ABSENT
    email: Email | None = ABSENT
    birth_year: BirthYear | None = ABSENT
    preferred_channel: Channel | None = ABSENT
    platforms: Handles | None = ABSENT

    @model_validator(mode="after")
    def _is_reached_one_way(self) -> Self:
        if self.phone is not None and self.reached_by is not None:
            raise refuse("must have either `phone` or `reached_by`")
        return self

    def changes(self) -> Changes:
        """null sets gender and language back to what they are when never given."""
        given = self.model_fields_set
        return Changes(
            name=self.name,
            phone=self.phone,
            reached_by=self.reached_by,
            gender=(self.gender or Gender.UNDISCLOSED.value) if "gender" in given else None,
            language=(self.language or Language.HINDI.value) if "language" in given else None,
            email=self.email,
            birth_year=self.birth_year,
            preferred_channel=self.preferred_channel,
            handles=handles_by_platform(self.platforms or ()) if "platforms" in given else None,
            removed=frozenset(
                name
                for name in ("email", "birth_year", "preferred_channel")
                if name in given and getattr(self, name) is None
            ),
        )


class Move(RequestBody):
    unit: UnitCode
