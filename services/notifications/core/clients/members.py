"""The members service: who a member is now, what they agreed to, and how to reach them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, Field

from services.notifications.core.clients.service import Answers, ServiceClient
from services.shared.contracts.vocabulary import Channel


@dataclass(frozen=True, slots=True)
class Contact:
    """A member as the members service describes them now; it decides whether a message may go.

    Name and addresses are not in the repr, so that no log or traceback shows them.
    """

    name: str = field(repr=False)
    phone: str | None = field(repr=False)
    email: str | None = field(repr=False)
    active: bool
    unit: str
    consents: frozenset[tuple[str, str]] | None
    """Purposes and channels; None if the answer comes from release 0.1.0 of members, which does not say."""
    own_number: bool = True
    preferred_channel: str | None = None
    minor: bool = False

    def address(self, channel: str) -> str | None:
        return self.email if channel == Channel.EMAIL else self.phone

    @property
    def channels(self) -> frozenset[str]:
        return frozenset(channel.value for channel in Channel if self.address(channel))

    def consented(self, purpose: str) -> frozenset[str]:
        """The channels on which the member agreed to messages of this purpose."""
        return frozenset(channel for given, channel in self.consents or () if given == purpose)


class _Consent(BaseModel):
    purpose: Annotated[str, Field(max_length=40)]
    channel: Annotated[str, Field(max_length=40)]


class _Member(BaseModel):
    """Bounded well above what members accepts, so that no answer makes a message of any size."""

    id: str
    name: Annotated[str, Field(max_length=1000)]
    phone: Annotated[str | None, Field(max_length=64)] = None
    email: Annotated[str | None, Field(max_length=320)] = None
    status: str
    unit: Annotated[str, Field(max_length=200)]
    consents: Annotated[list[_Consent] | None, Field(max_length=100)] = None
    own_number: bool = True
    preferred_channel: Annotated[str | None, Field(max_length=40)] = None
    minor: bool = False


class MembersClient:
    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self.close = service.close

    async def contacts(self, member_ids: Sequence[str]) -> Answers[Contact]:
        """At most 500 ids. Raises: `TransientError`."""
        answers = await self._service.resolve("/v1/members/resolve", member_ids, _Member)
        return Answers({id_: _contact(m) for id_, m in answers.found.items()}, answers.failed)


def _contact(member: _Member) -> Contact:
    consents = member.consents
    return Contact(
        name=member.name,
        phone=member.phone,
        email=member.email,
        active=member.status == "active",
        unit=member.unit,
        consents=None if consents is None else frozenset((c.purpose, c.channel) for c in consents),
        own_number=member.own_number,
        preferred_channel=member.preferred_channel,
        minor=member.minor,
    )
