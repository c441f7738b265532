"""The pairs that a caller may see and decide about: both members are in the caller's subtree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.members.core.core import Core
from services.members.core.domain import Member
from services.members.duplicates.store import DuplicateStore, Pair
from services.shared.errors import NotFoundError
from services.shared.identity import Identity


@dataclass(frozen=True, slots=True)
class Suggestion:
    pair: Pair
    members: Sequence[Member]


class Duplicates:
    def __init__(self, core: Core, store: DuplicateStore) -> None:
        self._clock = core.runtime.clock
        self._store = store

    async def page(
        self, caller: Identity, unit: str | None, state: str, after: str | None, limit: int
    ) -> list[Pair]:
        """Raises: `NotFoundError` for a unit outside the caller's subtree."""
        return await self._store.page(caller.accessible_root(unit), state, after, limit)

    async def shown(self, caller: Identity, pairs: Sequence[Pair]) -> list[Suggestion]:
        """The pairs with their members. One that a member has moved out of the caller's subtree is left out:
        the list may say so a little later than the member."""
        people = await self._store.people({id_ for pair in pairs for id_ in pair.members})
        return [Suggestion(pair, members) for pair in pairs if (members := _seen(caller, pair, people))]

    async def dismiss(self, caller: Identity, pair_id: str) -> Suggestion:
        """The pair, which is never suggested again. Again, nothing changes.

        Raises: `NotFoundError`.
        """
        pair = await self._store.find(pair_id)
        if pair is None or not await self.shown(caller, [pair]):
            raise NotFoundError
        await self._store.dismiss(pair_id, caller.subject, self._clock.now())
        dismissed = await self._store.find(pair_id)
        if dismissed is None:
            raise NotFoundError
        [suggestion] = await self.shown(caller, [dismissed]) or [Suggestion(dismissed, [])]
        return suggestion


def _seen(caller: Identity, pair: Pair, people: Mapping[str, Member]) -> list[Member]:
    """Both members, or none."""
    members = [people[id_] for id_ in pair.members if id_ in people and caller.can_access(people[id_].unit)]
    return members if len(members) == len(pair.members) else []
