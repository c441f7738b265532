"""The queries of `contact_reads`, which `core/store.py` describes, and the indexes that they use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from pymongo import IndexModel

from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Migration

_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MILLISECOND: Final = timedelta(milliseconds=1)
_NEWEST_FIRST: Final = [("at", -1), ("_id", -1)]


@dataclass(frozen=True, slots=True)
class ReadSearch:
    """Filters, all of which must match: `since` <= the time of the read < `until`."""

    subject: str | None = None
    member: str | None = None
    via: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Position(NamedTuple):
    """The place of an item in the listing: the read's time in milliseconds, its id, and the number of the
    member within it. Times of BSON are in milliseconds."""

    at: int
    read_id: str
    number: int


@dataclass(frozen=True, slots=True)
class ReadItem:
    """One member of one read. `member_id` is None for a read of something else, which `about` names."""

    read_id: str
    number: int
    at: datetime
    subject: str
    via: str
    request_id: str
    member_id: str | None
    about: str | None = None
    unit: str | None = None
    """The unit of what `about` names."""

    @property
    def position(self) -> Position:
        return Position((self.at - _EPOCH) // _MILLISECOND, self.read_id, self.number)


class ReadStore:
    def __init__(self, database: Database) -> None:
        self._reads: Collection = database["contact_reads"]
        self._members: Collection = database["members"]

    async def page(self, search: ReadSearch, after: Position | None, limit: int) -> list[ReadItem]:
        """At most `limit` items after the position, the newest read first."""
        rows = self._reads.find(_query(search, after)).sort(_NEWEST_FIRST).batch_size(min(limit, 100))
        return [item async for item in _first(_items(rows, search.member, after), limit)]

    async def within(self, member_ids: Iterable[str], root: str) -> set[str]:
        """The ones among the members who are in the subtree of `root` now."""
        query = {"_id": {"$in": list(member_ids)}, "unit": subtree(root)}
        return {row["_id"] async for row in self._members.find(query, {"_id": 1})}


def _query(search: ReadSearch, after: Position | None) -> Document:
    wanted = {"subject": search.subject, "ids": search.member, "via": search.via}
    query: Document = {name: value for name, value in wanted.items() if value is not None}
    bounds: Document = {}
    if search.since is not None:
        bounds["$gte"] = search.since
    if search.until is not None:
        bounds["$lt"] = search.until
    conditions: list[Document] = [{"at": bounds}] if bounds else []
    if after is not None:
        at = _EPOCH + after.at * _MILLISECOND
        # The first condition bounds the index, which the second one alone would not.
        conditions.append({"at": {"$lte": at}})
        conditions.append({"$or": [{"at": {"$lt": at}}, {"_id": {"$lte": after.read_id}}]})
    return {**query, "$and": conditions} if conditions else query


async def _items(rows: Any, member: str | None, after: Position | None) -> AsyncIterator[ReadItem]:
    async for row in rows:
        begun = after is not None and row["_id"] == after.read_id
        for number, member_id in enumerate(row["ids"] or [None]):
            if (begun and after is not None and number <= after.number) or member not in (None, member_id):
                continue
            yield ReadItem(
                read_id=row["_id"],
                number=number,
                at=row["at"],
                subject=row["subject"],
                via=row["via"],
                request_id=row["request_id"],
                member_id=member_id,
                about=row.get("about"),
                unit=row.get("unit"),
            )


async def _first(items: AsyncIterator[ReadItem], count: int) -> AsyncIterator[ReadItem]:
    async for item in items:
        yield item
        count -= 1
        if not count:
            return


async def _indexes(database: Database) -> None:
    """By whom, of whom, and when. `ids` has an entry for each member of a read."""
    await database["contact_reads"].create_indexes(
        [IndexModel([(first, 1), *_NEWEST_FIRST]) for first in ("subject", "ids", "via")]
        + [IndexModel(_NEWEST_FIRST)]
    )


MIGRATIONS: Final = (Migration("reads-0001", "indexes of contact_reads", _indexes),)
