"""The outbox: a change and its events are committed in one transaction, or neither is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event, Numbered
from services.shared.database import (
    Client,
    Collection,
    Database,
    Document,
    Session,
    commits_within,
    transact,
)
from services.shared.errors import PermanentError
from services.shared.ids import new_id
from services.shared.messaging.broker import Message
from services.shared.messaging.codec import encode
from services.shared.observability.correlation import current_context, new_traceparent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """The causes of an event: the request that started the chain, and the event that led to it, if any."""

    correlation_id: str
    traceparent: str
    causation_id: str | None = None

    @classmethod
    def of(cls, cause: Envelope[Event]) -> Origin:
        return cls(cause.correlation_id, cause.traceparent, cause.id)

    @classmethod
    def here(cls) -> Origin:
        """The origin from the current request, or a new chain (in a background loop)."""
        context = current_context()
        if context is None:
            return cls(new_id(), new_traceparent())
        return cls(context.request_id, context.traceparent)


class UnitOfWork:
    """One run of one transaction: its session, and the events staged in it."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self.session = session
        self._clock = clock
        self.staged: list[Document] = []
        self.committed: list[Callable[[], None]] = []
        self.refused: dict[str, PermanentError] = {}
        """Events that became dead letters although the transaction goes on, by id."""

    def after_commit(self, do: Callable[[], None]) -> None:
        """Call `do` once if this run commits: counters and wake-ups must not count a run that is repeated."""
        self.committed.append(do)

    def refuse(self, event_id: str, error: PermanentError) -> None:
        """Make one event of the batch a dead letter, without running the others again. For an event that has
        had no effect yet."""
        self.refused[event_id] = error

    def stage(self, event: Event, sequence: int, origin: Origin) -> None:
        """Publish `event` if and only if this transaction commits. `sequence` is the subject's next
        version."""
        now = self._clock.now()
        envelope = Envelope(
            id=new_id(),
            sequence=sequence,
            time=now,
            correlation_id=origin.correlation_id,
            traceparent=origin.traceparent,
            causation_id=origin.causation_id,
            data=event,
        )
        self.stage_message(encode(envelope), envelope.id, sequence, now)

    def stage_all(self, events: Iterable[Numbered], origin: Origin) -> None:
        """Publish the events of a domain step if and only if this transaction commits."""
        for event, sequence in events:
            self.stage(event, sequence, origin)

    def stage_message(self, message: Message, row_id: str, sequence: int, now: datetime) -> None:
        """Publish an encoded message. `row_id` orders it among the messages of other subjects."""
        self.staged.append(
            {
                "_id": row_id,
                "subject": message.key.decode(),
                "sequence": sequence,
                "topic": message.topic,
                "value": message.value,
                "headers": dict(message.headers),
                "at": now,
            }
        )


class Outbox:
    """Runs the transactions of a service, and stores the events they stage until the relay publishes them."""

    def __init__(
        self, client: Client, database: Database, clock: Clock, *, on_retry: Callable[[], None] | None = None
    ) -> None:
        """`on_retry` is called whenever a transaction has to run again."""
        self._database = database
        self.rows: Collection = database["outbox"]
        self.clock = clock
        self._client = client
        self._on_retry = on_retry
        self.staged = asyncio.Event()
        """Set after a commit that staged events, so that the relay of this process need not poll for them."""

    async def transact(self, body: Callable[[UnitOfWork], Coroutine[Any, Any, T]]) -> T:
        """Run `body` in one transaction together with the rows it stages; `body` may run several times.

        Raises: any error of `body` or MongoDB, with nothing written; `TimeoutError`.
        """
        runs = 0

        async def run(session: Session) -> tuple[UnitOfWork, T]:
            nonlocal runs
            runs += 1
            if runs > 1 and self._on_retry:
                self._on_retry()
            work = UnitOfWork(session, self.clock)
            result = await body(work)
            if work.staged:
                await self.rows.insert_many(work.staged, session=session)
            return work, result

        work, result = await transact(self._client, run)
        if work.staged:
            self.staged.set()
        for do in work.committed:
            do()
        return result

    async def waiting(self) -> tuple[int, float]:
        """How many events wait for the relay, and the age in seconds of the oldest that is not set aside (0.0
        if there is none)."""
        oldest = await self.rows.find_one({"stuck": None}, {"at": 1}, sort=[("_id", 1)])
        age = max(0.0, (self.clock.now() - oldest["at"]).total_seconds()) if oldest else 0.0
        return await self.rows.estimated_document_count(), age

    async def commits_within(self, seconds: float) -> bool:
        """Whether the database commits a small transaction within `seconds`."""
        return await commits_within(self._client, self._database, seconds)


def message_of(row: Document) -> Message:
    """The message of an outbox row. BSON stores plain `bytes`, so value and headers need no conversion."""
    return Message(row["topic"], row["subject"].encode(), row["value"], tuple(row["headers"].items()))
