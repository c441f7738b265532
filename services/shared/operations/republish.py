"""Republish: a service publishes its state again as snapshots, for a consumer that has lost its own state.

The snapshots go through the outbox, so the running service publishes them. Each batch is read and staged in
one transaction: it is the state at one instant, with the sequence of that state. A later change has a higher
sequence, so a consumer may receive the two in either order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from rich.console import Console

from services.shared.contracts.vocabulary import subtree
from services.shared.database import Database, Document
from services.shared.messaging import Origin, Outbox, UnitOfWork
from services.shared.operations.progress import Meter
from services.shared.runtime import Source

BATCH: Final = 500
MOST_WAITING: Final = 5000
"""Outbox rows above which the command waits, so that snapshots do not delay the service's own events."""
PATIENCE_SECONDS: Final = 10.0


class Republish:
    """Stages snapshots. `reached` tells where an interrupted run can continue: `<collection>:<id>`."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        sources: Sequence[Source],
        console: Console,
        *,
        unit: str | None = None,
        after: str = "",
        batch: int = BATCH,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """Raises: `ValueError` when `after` names no collection of the sources."""
        self._database = database
        self._outbox = outbox
        self._console = console
        self._unit = unit
        self._batch = batch
        self._most_waiting = most_waiting
        self._origin = Origin.here()
        self.reached = after
        collection, _, self._after = after.partition(":")
        names = [source.collection for source in sources]
        self._sources = sources[names.index(collection) :] if after else sources

    async def count(self) -> dict[str, int]:
        """The number of documents to publish, by collection."""
        counts = {}
        for source in self._sources:
            query = self._query(source, self._after_in(source))
            counts[source.collection] = await self._database[source.collection].count_documents(query)
        return counts

    async def run(self) -> dict[str, int]:
        """Stage everything. Returns the number of snapshots by event type."""
        published: dict[str, int] = {}
        for source in self._sources:
            total = await self._database[source.collection].count_documents(
                self._query(source, self._after_in(source))
            )
            after, done = self._after_in(source), 0
            with Meter(self._console, source.collection) as meter:
                while staged := await self._stage(source, after):
                    after, done = staged[-1][0], done + len(staged)
                    self.reached = f"{source.collection}:{after}"
                    for _, kind in staged:
                        published[kind] = published.get(kind, 0) + 1
                    meter.show(done, max(done, total))
                    await self._wait_for_outbox()
        return published

    def _after_in(self, source: Source) -> str:
        """`after` applies to the first source only."""
        return self._after if source is self._sources[0] else ""

    async def _stage(self, source: Source, after: str) -> list[tuple[str, str]]:
        """Stage the next batch. Returns the id and the event type of each document."""

        async def body(work: UnitOfWork) -> list[tuple[str, str]]:
            staged = []
            query = self._query(source, after)
            for row in await source.read(self._database, query, self._batch, work.session):
                event, sequence = source.snapshot(row)
                work.stage(event, sequence, self._origin)
                staged.append((row["_id"], event.event_type))
            return staged

        return await self._outbox.transact(body)

    def _query(self, source: Source, after: str) -> Document:
        conditions: list[Document] = [{"_id": {"$gt": after}}]
        if self._unit is not None:
            conditions.append({source.unit: subtree(self._unit)})
        return {**source.where, "$and": conditions}

    async def _wait_for_outbox(self) -> None:
        waited = 0.0
        while await self._outbox.rows.estimated_document_count() > self._most_waiting:
            if waited == PATIENCE_SECONDS:
                self._console.print("The outbox is not draining: is the service running?")
            await asyncio.sleep(0.25)
            waited += 0.25
