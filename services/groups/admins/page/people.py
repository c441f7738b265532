"""Names and numbers of the people in an admin's tasks, from the members service, which records each read.

Nothing of them is kept here. Without an answer, the page shows the tasks without names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import structlog
from pydantic import BaseModel, Field, ValidationError

from services.groups.admins.store import Task
from services.shared.contracts.vocabulary import Id
from services.shared.errors import TransientError
from services.shared.peers import Peer

log = structlog.get_logger(__name__)

MOST: Final = 50
"""People on one page: each is a read of a contact."""


class Person(BaseModel):
    name: Annotated[str | None, Field(max_length=1000)] = None
    phone: Annotated[str | None, Field(max_length=64)] = None


class _Resolved(Person):
    id: Id


class _Answer(BaseModel):
    items: Annotated[list[_Resolved], Field(max_length=500)]


class People:
    def __init__(self, members: Peer | None) -> None:
        self._members = members

    async def of(self, tasks: Sequence[Task]) -> dict[str, Person]:
        """The people whom the tasks are about, and suggested successors, by member id."""
        if self._members is None or not tasks:
            return {}
        try:
            return await self._known(tasks, self._members) | await self._erased(tasks, self._members)
        except (TransientError, ValidationError) as error:  # the latter quotes the answer
            log.warning("page.without_names", error=type(error).__name__)
            return {}

    async def removed(self, task: Task) -> None:
        """Tell members that an erased person is out of the group, so that their number can go.

        Raises: `TransientError`.
        """
        if self._members is not None and task.erasure_id is not None:
            path = f"/v1/erasures/{task.erasure_id}/removals/{task.group_id}"
            await self._members.post(path, None, "/v1/erasures/{id}/removals/{group_id}")

    async def _known(self, tasks: Sequence[Task], members: Peer) -> dict[str, Person]:
        ids = [each.member_id for each in tasks if each.erasure_id is None]
        ids += [each.successor for each in tasks if each.successor is not None]
        if not ids:
            return {}
        answer = await members.post("/v1/members/resolve", {"ids": list(dict.fromkeys(ids))[: 2 * MOST]})
        return {each.id: Person(name=each.name, phone=each.phone) for each in _Answer(**answer).items}

    async def _erased(self, tasks: Sequence[Task], members: Peer) -> dict[str, Person]:
        found = {}
        for task in tasks:
            if task.erasure_id is not None:
                path = f"/v1/erasures/{task.erasure_id}/removals"
                answer = await members.get(path, "/v1/erasures/{id}/removals")
                found[task.member_id] = Person(name=answer.get("name"), phone=answer.get("phone"))
        return found
