"""The request to register a person."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from services.members.core.domain import GUARDIAN, Contact
from services.members.core.joining import Application
from services.members.core.schemas import (
    BirthYear,
    Email,
    Evidence,
    Handles,
    Label,
    MemberId,
    Phone,
    RequestBody,
    handles_by_platform,
)
from services.shared.contracts.vocabulary import Channel, Gender, Language, Purpose, UnitCode
from services.shared.text import Name, refuse


class GivenConsent(RequestBody):
    """`notice` is the version of the text that the person was shown, `language` its language."""

    purpose: Purpose
    channel: Channel
    notice: Label
    language: Language


def _one_consent_each(consents: tuple[GivenConsent, ...]) -> tuple[GivenConsent, ...]:
    if len({(c.purpose, c.channel) for c in consents}) < len(consents):
        raise refuse("names a purpose and channel twice")
    return consents


Consents = Annotated[
    tuple[GivenConsent, ...], Field(max_length=len(Purpose) * len(Channel)), AfterValidator(_one_consent_each)
]


class Registration(RequestBody):
    """A person to register. Without `consents` the person is recorded and never messaged; neither is who has
    no `phone` of their own and is `reached_by` another member, whatever they consented to.

    `guardian_evidence` is where the proof is kept that the guardian of a minor gave the `consents` (a form's
    number, a call's id); one of those must be to `membership`.
    """

    name: Name
    phone: Phone | None = None
    reached_by: MemberId | None = None
    unit: UnitCode
    gender: Gender = Field(default=Gender.UNDISCLOSED, validate_default=True)
    language: Language = Field(default=Language.HINDI, validate_default=True)
    email: Email | None = None
    birth_year: BirthYear | None = None
    preferred_channel: Channel | None = None
    platforms: Handles = ()
    inviter_id: MemberId | None = None
    consents: Consents = ()
    guardian_evidence: Evidence | None = None

    @model_validator(mode="after")
    def _is_reached_one_way(self) -> Self:
        if (self.phone is None) == (self.reached_by is None):
            raise refuse("must have either `phone` or `reached_by`")
        return self

    def application(self) -> Application:
        return Application(
            name=self.name,
            unit=self.unit,
            contact=Contact(self.phone or "", self.email, handles_by_platform(self.platforms)),
            gender=self.gender,
            language=self.language,
            birth_year=self.birth_year,
            preferred_channel=self.preferred_channel,
            inviter_id=self.inviter_id,
            reached_by=self.reached_by,
            consents=tuple((c.purpose, c.channel, c.notice, c.language) for c in self.consents),
            source=GUARDIAN if self.guardian_evidence else "registration",
            guardian_evidence=self.guardian_evidence,
        )
