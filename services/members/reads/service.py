"""Looking up who was shown whose data."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from services.members.core.reading import MemberReader
from services.members.reads.store import Position, ReadItem, ReadSearch, ReadStore
from services.shared.identity import Identity


@dataclass(frozen=True, slots=True)
class Seen:
    """The items of a page, and those of them that the caller may see."""

    all: Sequence[ReadItem]
    visible: AbstractSet[ReadItem]


class Reads:
    def __init__(self, store: ReadStore, reader: MemberReader) -> None:
        self._store = store
        self._reader = reader

    async def page(self, caller: Identity, search: ReadSearch, after: Position | None, limit: int) -> Seen:
        """At most `limit` items after a position, the newest first.

        Raises: `NotFoundError` for a member outside the caller's subtree, or a caller without any unit.
        """
        root = caller.accessible_root(None)
        if root is not None and search.member is not None:
            await self._reader.find(caller, search.member)
        items = await self._store.page(search, after, limit)
        if root is None:
            return Seen(items, frozenset(items))
        within = await self._store.within({each.member_id for each in items if each.member_id}, root)
        return Seen(items, {each for each in items if _is_visible(each, within, caller)})


def _is_visible(item: ReadItem, within: AbstractSet[str], caller: Identity) -> bool:
    if item.member_id is not None:
        return item.member_id in within
    return item.unit is not None and caller.can_access(item.unit)
