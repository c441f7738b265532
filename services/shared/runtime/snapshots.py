"""Snapshots: a service's state published again, under the sequences that it has. No change happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.shared.contracts.base import Event, Numbered
from services.shared.database import Database, Document, Session


@dataclass(frozen=True)
class Source:
    """One collection to publish again. `snapshot` maps a document to its event and sequence; `unit` is the
    field with the unit's code; only `fields` are read, so that no other field can leak; `where` excludes
    documents never published; `subject` is the field with the event's subject, of which there are at most
    `each` documents."""

    collection: str
    unit: str
    fields: Sequence[str]
    snapshot: Callable[[Document], tuple[Event, int]]
    where: Document = field(default_factory=dict)
    subject: str = "_id"
    each: int = 1

    async def read(
        self, database: Database, query: Document, limit: int, session: Session | None = None
    ) -> list[Document]:
        """The first `limit` documents that match, by id, with only `fields`."""
        rows = database[self.collection].find(
            {**self.where, **query}, dict.fromkeys(self.fields, 1), session=session
        )
        return await rows.sort("_id", 1).limit(limit).to_list(limit)


async def snapshots_of(
    subjects: Sequence[str], sources: Sequence[Source], database: Database, session: Session | None = None
) -> list[Numbered]:
    """The present snapshots of `subjects`; a subject may be in several sources, or in none."""
    found = []
    for source in sources:
        mine: Document = {source.subject: {"$in": list(subjects)}}
        rows = await source.read(database, mine, len(subjects) * source.each, session)
        found += [Numbered(*source.snapshot(row)) for row in rows]
    return found
