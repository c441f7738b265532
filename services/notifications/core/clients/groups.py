"""The groups service: a group's names and its invite link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from services.notifications.core.clients.service import ServiceClient


@dataclass(frozen=True, slots=True)
class Group:
    """`names` by language. The link admits its holder, so it is not in the repr."""

    names: Mapping[str, str]
    invite_link: str | None = field(repr=False)


class _Group(BaseModel):
    id: str
    name: dict[str, str]
    invite_link: str | None = None


class _Groups(BaseModel):
    items: list[_Group]


class GroupsClient:
    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self.close = service.close

    async def groups(self, group_ids: Sequence[str]) -> dict[str, Group]:
        """By group id; unknown groups are missing. At most 500 ids. Raises: `TransientError`."""
        found = await self._service.post("/v1/groups/resolve", group_ids, _Groups)
        return {g.id: Group(g.name, g.invite_link) for g in found.items}
