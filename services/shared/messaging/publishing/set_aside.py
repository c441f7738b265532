"""Rows of the outbox that cannot be published: marked, kept out of the way of all others, and tried again.

A row is marked with `stuck` (a `Refusal`) and `stuck_at`. A refused record holds back the later rows of its
subject in its topic, which are marked `behind`; a refused topic holds back all of its rows and no others. A
relay of an earlier release ignores the marks and tries those rows like all others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from services.shared.database import Document
from services.shared.messaging.broker import OF_A_RECORD, OF_A_TOPIC, Refusal
from services.shared.messaging.metrics import RelayMetrics
from services.shared.messaging.publishing.outbox import Outbox

log = structlog.get_logger(__name__)

PAUSES: Final = (1.0, 30.0)
"""Seconds before set-aside rows are tried again: the first pause, doubling up to the second."""
TRIED_AT_ONCE: Final = 20
MOST_COUNTED: Final = 10_000
FLOOR_SECONDS: Final = 5.0
MARKED: Final = {"$in": sorted(Refusal)}
UNMARK: Final = {"$unset": {"stuck": "", "stuck_at": ""}}


class SetAside:
    """The set-aside rows of one outbox, as its relay's leader treats them."""

    def __init__(self, outbox: Outbox, metrics: RelayMetrics) -> None:
        self._rows = outbox.rows
        self._clock = outbox.clock
        self._metrics = metrics
        self._shown: set[tuple[str, str]] = set()
        self._topics: dict[str, Refusal] = {}
        """The topics that were last refused, and why."""
        self._pause = PAUSES[0]
        self._floor: str | None = None
        """All rows with smaller ids were set aside a moment ago, so that a scan need not pass them again."""
        self._floor_until = 0.0
        self.forget()

    def forget(self) -> None:
        """Another process may lead now, and set rows aside or publish them."""
        self.any = True
        """Whether there are, or may be, set-aside rows."""
        self._topics.clear()
        self._retry_at = 0.0

    @property
    def due(self) -> bool:
        return self.any and time.monotonic() >= self._retry_at

    # -- the other rows --------------------------------------------------------------------------------------

    def others(self) -> Document:
        """The query for rows that are not set aside."""
        if not self.any:
            return {}
        floored = self._floor is not None and time.monotonic() < self._floor_until
        return {"stuck": None, "_id": {"$gte": self._floor}} if floored else {"stuck": None}

    async def scanned(self, query: Document, first: Document | None) -> None:
        """Note where the result of a query of `others` begins."""
        if query.keys() != {"stuck"}:
            return
        # Without a result, all rows are set aside. Whatever has a smaller id is found within FLOOR_SECONDS.
        first = first or await self._rows.find_one({}, {"_id": 1}, sort=[("_id", -1)])
        self._floor = first["_id"] if first else None
        self._floor_until = time.monotonic() + FLOOR_SECONDS

    async def without(self, rows: Sequence[Document]) -> list[Document]:
        """The rows that can be published, in their order; the others are marked.

        `rows` are sorted by topic, subject and sequence, and hold all rows of their subjects.
        """
        free: list[Document] = []
        held: set[tuple[str, str]] = set()
        marks: dict[str, Refusal] = {}
        for row in rows:
            subject = (row["topic"], row["subject"])
            if row.get("stuck"):
                held.add(subject)
            elif row["topic"] in self._topics:
                marks[row["_id"]] = self._topics[row["topic"]]
            elif subject in held:
                marks[row["_id"]] = Refusal.BEHIND
            else:
                free.append(row)
        await self._mark(marks)
        return free

    async def add(self, rows: Sequence[Document], refused: Mapping[int, Refusal]) -> None:
        """Set the refused rows aside, and those that wait behind them."""
        refused = {i: why for i, why in refused.items() if why is not Refusal.UNANSWERED}
        if not refused:
            return
        topics = {rows[i]["topic"]: why for i, why in refused.items() if why in OF_A_TOPIC}
        for topic, why in topics.items():
            mark = {"$set": {"stuck": why.value, "stuck_at": self._clock.now()}}
            await self._rows.update_many({"topic": topic, "stuck": None}, mark)
        await self._mark({rows[i]["_id"]: why for i, why in refused.items() if why not in OF_A_TOPIC})
        self._topics |= topics
        self.any, self._pause = True, PAUSES[0]
        self._retry_at = time.monotonic() + self._pause
        for (topic, reason), count in Counter(
            (rows[i]["topic"], why.value) for i, why in refused.items()
        ).items():
            log.error("relay.set_aside", topic=topic, reason=reason, rows=count)

    async def _mark(self, marks: Mapping[str, Refusal]) -> None:
        for why in set(marks.values()):
            ids = [id_ for id_, reason in marks.items() if reason is why]
            mark = {"$set": {"stuck": why.value, "stuck_at": self._clock.now()}}
            await self._rows.update_many({"_id": {"$in": ids}}, mark)

    # -- another try -----------------------------------------------------------------------------------------

    async def heads(self) -> list[Document]:
        """The rows to try again: one of each refused topic, and the refused records that were
        tried longest ago."""
        records = self._rows.find({"stuck": _any_of(OF_A_RECORD)}).sort("stuck_at", 1).limit(TRIED_AT_ONCE)
        heads = await records.to_list(None)
        await self._free_orphans()
        topics = await self._rows.distinct("topic", {"stuck": _any_of(OF_A_TOPIC)})
        self._topics = {topic: why for topic, why in self._topics.items() if topic in topics}
        heads += [row for topic in topics if (row := await self._first_of(topic))]
        self.any = bool(heads)
        return heads

    async def _first_of(self, topic: str) -> Document | None:
        stuck = {"topic": topic, "stuck": _any_of(OF_A_TOPIC)}
        oldest = await self._rows.find_one(stuck, sort=[("_id", 1)])
        if oldest is None:
            return None
        return await self._rows.find_one({**stuck, "subject": oldest["subject"]}, sort=[("sequence", 1)])

    async def _free_orphans(self) -> None:
        """Free the rows behind a record that is gone: an operator may delete it, an earlier release publish
        it."""
        behind = await self._rows.distinct("subject", {"stuck": Refusal.BEHIND.value})
        if behind:
            headed = await self._rows.distinct("subject", {"stuck": _any_of(OF_A_RECORD)})
            await self._free(
                {"subject": {"$in": sorted({*behind} - {*headed})}, "stuck": Refusal.BEHIND.value}
            )

    async def tried(self, heads: Sequence[Document], refused: Mapping[int, Refusal]) -> None:
        """Free those rows that waited for a head that is published now; the others wait for the next try."""
        taken = [row for i, row in enumerate(heads) if i not in refused]
        for topic in self._answering(heads, refused):
            self._topics.pop(topic, None)
            await self._free({"topic": topic, "stuck": _any_of(OF_A_TOPIC)})
            log.info("relay.topic_resumed", topic=topic)
        for row in taken:
            await self._free({"subject": row["subject"], "stuck": Refusal.BEHIND.value})
        await self._mark({heads[i]["_id"]: why for i, why in refused.items() if why in OF_A_RECORD})
        self._topics |= {heads[i]["topic"]: why for i, why in refused.items() if why in OF_A_TOPIC}
        self._pause = PAUSES[0] if taken else min(PAUSES[1], self._pause * 2)
        self._retry_at = time.monotonic() + self._pause

    def _answering(self, heads: Sequence[Document], refused: Mapping[int, Refusal]) -> set[str]:
        """The topics that were refused, and are not any more."""
        return {
            row["topic"]
            for i, row in enumerate(heads)
            if row["stuck"] in OF_A_TOPIC and (i not in refused or refused[i] in OF_A_RECORD)
        }

    async def _free(self, query: Document) -> None:
        await self._rows.update_many(query, UNMARK)
        self._floor = None

    # -- what an operator sees -------------------------------------------------------------------------------

    async def gauge(self) -> None:
        """Count the set-aside rows by topic and reason."""
        marked = self._rows.find({"stuck": MARKED}, {"topic": 1, "stuck": 1}).limit(MOST_COUNTED)
        counts = Counter((row["topic"], row["stuck"]) for row in await marked.to_list(None))
        for labels in self._shown | counts.keys():
            self._metrics.set_aside.labels(*labels).set(counts[labels])
        self._shown |= counts.keys()


def _any_of(reasons: Iterable[Refusal]) -> Document:
    return {"$in": sorted(reasons)}
