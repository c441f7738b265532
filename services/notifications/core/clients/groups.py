"""The groups service: a group's unit, its names and its invite link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, Field

from services.notifications.core.clients.service import Answers, ServiceClient


@dataclass(frozen=True, slots=True)
class Group:
    """`names` by language. The link admits its holder, so it is not in the repr."""

    unit: str
    names: Mapping[str, str]
    invite_link: str | None = field(repr=False)


class _Group(BaseModel):
    """Bounded well above what groups accepts, so that no answer makes a message of any size."""

    id: str
    unit: Annotated[str, Field(max_length=200)]
    name: Annotated[dict[str, Annotated[str, Field(max_length=1000)]], Field(max_length=50)]
    invite_link: Annotated[str | None, Field(max_length=2000)] = None


class GroupsClient:
    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self.close = service.close

    async def groups(self, group_ids: Sequence[str]) -> Answers[Group]:
        """At most 500 ids. Raises: `TransientError`."""
        answers = await self._service.resolve("/v1/groups/resolve", group_ids, _Group)
        return Answers(
            {id_: Group(g.unit, g.name, g.invite_link) for id_, g in answers.found.items()}, answers.failed
        )
