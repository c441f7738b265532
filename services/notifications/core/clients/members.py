"""The members service: who a member is now and how to reach them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from services.notifications.core.clients.service import ServiceClient
from services.shared.contracts.vocabulary import Channel


@dataclass(frozen=True, slots=True)
class Contact:
    """A member's name and addresses. They are not in the repr, so that no log or traceback shows them."""

    name: str = field(repr=False)
    phone: str | None = field(repr=False)
    email: str | None = field(repr=False)
    active: bool = True

    def address(self, channel: str) -> str | None:
        return self.email if channel == Channel.EMAIL else self.phone

    @property
    def channels(self) -> frozenset[str]:
        return frozenset(channel.value for channel in Channel if self.address(channel))


class _Member(BaseModel):
    id: str
    name: str
    phone: str | None = None
    email: str | None = None
    status: str = "active"


class _Members(BaseModel):
    items: list[_Member]


class MembersClient:
    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self.close = service.close

    async def contacts(self, member_ids: Sequence[str]) -> dict[str, Contact]:
        """By member id; unknown members are missing. At most 500 ids. Raises: `TransientError`."""
        found = await self._service.post("/v1/members/resolve", member_ids, _Members)
        return {m.id: Contact(m.name, m.phone, m.email, m.status == "active") for m in found.items}
