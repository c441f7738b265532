"""Replay: applies dead letters again, in the order of the log, each at most once however often it is
requested.

A letter is marked as replayed in the transaction of its effect. Letters share a transaction; a letter that
fails again is found by halving, stays dead, and holds back the later letters of its subject. A letter without
a value is read again from its topic, whose records never expire: a newer release may be able to decode it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import BY_TYPE
from services.shared.database import Document
from services.shared.errors import PermanentError, TransientError
from services.shared.faults import MAX_RACES, FaultFamily, classify, describe
from services.shared.messaging.bisection import bisect
from services.shared.messaging.broker import Broker, Record
from services.shared.messaging.codec import MAX_VALUE_BYTES, decode
from services.shared.messaging.consuming.applier import Subscriptions
from services.shared.messaging.consuming.decoding import DecodedRecord
from services.shared.messaging.consuming.inbox import Inbox
from services.shared.messaging.consuming.waves import waves
from services.shared.messaging.dead_letters.store import (
    OPEN,
    DeadLetters,
    Filter,
    letter_id,
    partition_of,
    place_id,
    place_of,
    record_of,
    subject_of,
)
from services.shared.messaging.publishing.outbox import Outbox, UnitOfWork
from services.shared.messaging.spans import processing
from services.shared.observability import tracing
from services.shared.observability.tracing import Span

log = structlog.get_logger(__name__)

PROBE_SECONDS: Final = 1.0
"""A database that commits a small transaction in this time is not to blame for one that took too long."""

NOT_SUBSCRIBED: Final = "not_subscribed"
NOT_ANSWERED: Final = "not_answered"
"""The broker has not told whether it still has the record."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A letter that stays dead, with the reason."""

    id: str
    reason: str
    detail: str


@dataclass(slots=True)
class ReplayReport:
    """The result of one call; each of its letters is counted in exactly one field."""

    replayed: int = 0
    failed: list[Failure] = field(default_factory=list)
    """Letters that failed again."""
    withheld: list[Failure] = field(default_factory=list)
    """Letters whose value was not kept and whose record still does not decode."""
    held: int = 0
    """Letters held back because an earlier letter of their subject failed again."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    letter: Document
    decoded: DecodedRecord

    @property
    def id(self) -> str:
        return str(self.letter["_id"])

    @property
    def event(self) -> Envelope[Event]:
        assert self.decoded.envelope is not None
        return self.decoded.envelope

    def end_span(self, error: str) -> None:
        if self.decoded.span:
            self.decoded.span.end(error=error)


@dataclass(slots=True)
class _Replay:
    by: str
    stuck: set[tuple[str, str]]
    report: ReplayReport = field(default_factory=ReplayReport)

    def free(self, batch: Sequence[_Candidate]) -> list[_Candidate]:
        """The batch without the letters of stuck subjects, which are counted as held."""
        free = []
        for candidate in batch:
            if subject_of(candidate.letter) in self.stuck:
                candidate.end_span("held")
            else:
                free.append(candidate)
        self.report.held += len(batch) - len(free)
        return free


class Replayer:
    def __init__(
        self,
        *,
        group: str,
        subscriptions: Subscriptions,
        broker: Broker,
        outbox: Outbox,
        inbox: Inbox,
        dead_letters: DeadLetters,
        clock: Clock,
    ) -> None:
        self._group = group
        self._handlers = subscriptions
        self._broker = broker
        self._outbox = outbox
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._clock = clock

    async def replay(self, wanted: Filter, letters: Sequence[Document], *, by: str) -> ReplayReport:
        """Apply `letters`: consecutive letters that match `wanted`, in order. Safe to repeat.

        Raises: `TransientError` when MongoDB or the broker does not answer; the letters applied before stay
        applied.
        """
        if not letters:
            return ReplayReport()
        subjects = [subject[1] for letter in letters if (subject := subject_of(letter))]
        run = _Replay(by, await self._dead_letters.stuck(wanted, place_of(letters[0]), subjects))
        await self._handle(await self._read(letters, run), run)
        return run.report

    async def replay_one(self, letter_id_: str, *, by: str) -> None:
        """Apply one letter, even if an earlier letter of its subject failed. Does nothing if the letter is
        not open (any more).

        Raises: `PermanentError` with the reason when it fails again or has no readable value;
        `TransientError`.
        """
        letter = await self._dead_letters.get(letter_id_)
        if letter is None or letter["state"] not in OPEN:
            return
        run = _Replay(by, set())
        await self._handle(await self._read([letter], run), run)
        for failure in run.report.withheld:
            raise PermanentError("value_withheld", f"its record in the topic: {failure.reason}")
        for failure in run.report.failed:
            raise PermanentError(failure.reason, failure.detail)

    async def _read(self, letters: Sequence[Document], run: _Replay) -> list[_Candidate]:
        """The letters that decode; the others are added to the report."""
        values = await self._dead_letters.values([letter["_id"] for letter in letters])
        again, silent = await self._read_again([x for x in letters if x["_id"] not in values])
        candidates = []
        for letter in letters:
            id_ = letter["_id"]
            record = record_of(letter, values[id_]) if id_ in values else again.get(id_)
            try:
                if id_ in silent:
                    raise PermanentError(NOT_ANSWERED, "the broker does not answer about its partition")
                if record is None:
                    raise PermanentError("not_read_again", "missing, changed, or of an unknown type")
                candidates.append(_Candidate(letter, DecodedRecord(record, self._decode(record))))
            except Exception as error:
                if id_ in values:
                    await self._fail(letter, error, run)
                else:
                    run.report.withheld.append(Failure(id_, *describe(error)))
        return candidates

    def _decode(self, record: Record) -> Envelope[Event]:
        event = decode(record, self._clock.now())
        if type(event.data) not in self._handlers:
            raise PermanentError(NOT_SUBSCRIBED, "this service does not handle the type")
        return event

    async def _read_again(self, letters: Sequence[Document]) -> tuple[dict[str, Record], set[str]]:
        """Records of letters without a value, if they are unchanged in the topic and may decode now; and the
        letters about which the broker gave no answer."""
        hopeful = [x for x in letters if x["type"] in BY_TYPE and 0 < x["bytes"] <= MAX_VALUE_BYTES]
        if not hopeful:
            return {}, set()
        places = [(partition_of(letter), letter["offset"]) for letter in hopeful]
        records, unanswered = await self._broker.read(places)
        sums = {letter["_id"]: letter["sha256"] for letter in hopeful}
        found = {letter_id(record): record for record in records}
        same = {id_: r for id_, r in found.items() if hashlib.sha256(r.value or b"").hexdigest() == sums[id_]}
        return same, {place_id(*place) for place in unanswered}

    async def _handle(self, candidates: Sequence[_Candidate], run: _Replay) -> None:
        with tracing.spans(self._begin_spans(candidates)) as spans:
            begun = [_Candidate(c.letter, c.decoded.under(spans.get(c.id))) for c in candidates]
            await self._apply(begun if spans else candidates, run)

    def _begin_spans(self, candidates: Sequence[_Candidate]) -> Iterator[tuple[str, Span]]:
        for candidate in candidates:
            if span := processing(self._group, candidate.decoded.record, candidate.event):
                yield candidate.id, span

    async def _apply(self, batch: Sequence[_Candidate], run: _Replay) -> None:
        """Apply the batch in one transaction; find failing letters by halving, in order."""

        async def attempt(candidates: Sequence[_Candidate]) -> None:
            if free := run.free(candidates):
                run.report.replayed += await self._transact(free, run.by)

        async def isolate(candidate: _Candidate, error: Exception) -> None:
            candidate.end_span(describe(error)[0])
            await self._fail(candidate.letter, error, run)

        await bisect(batch, attempt, isolate, splits=lambda error: not isinstance(error, TransientError))

    async def _fail(self, letter: Document, error: Exception, run: _Replay) -> None:
        failure = Failure(letter["_id"], *describe(error))
        log.error("replay.failed", letter=failure.id, reason=failure.reason, detail=failure.detail)
        if subject := subject_of(letter):
            run.stuck.add(subject)
        run.report.failed.append(failure)
        await self._dead_letters.failed_again(failure.id)

    async def _transact(self, batch: Sequence[_Candidate], by: str) -> int:
        """Apply a batch in one transaction. Returns how many letters were still open.

        Raises: `TransientError`; a handler's error, with nothing written.
        """

        async def body(work: UnitOfWork) -> int:
            return await self._effects(batch, by, work)

        for _ in range(MAX_RACES):
            try:
                return await self._outbox.transact(body)
            except Exception as error:
                verdict = classify(error)
                if isinstance(error, TimeoutError) and await self._outbox.commits_within(PROBE_SECONDS):
                    raise PermanentError("too_slow") from error
                if verdict is FaultFamily.TRANSIENT:
                    raise TransientError("replay") from error
                if verdict is not FaultFamily.RACE:
                    raise
        raise PermanentError("duplicate_key", "conflicted with another writer at every attempt")

    async def _effects(self, batch: Sequence[_Candidate], by: str, work: UnitOfWork) -> int:
        open_ = await self._dead_letters.still_open([c.id for c in batch], work.session)
        mine = [c for c in batch if c.id in open_]
        await self._dead_letters.settle(list(open_), "replayed", by=by, work=work)
        # A letter with a kept value put its event's id into the inbox itself: forget it. Any other id is
        # there because the event was applied.
        await self._inbox.forget([c.event.id for c in mine if c.letter["key"] is not None], work.session)
        events = {c.event.id: c.event for c in mine}
        done = await self._inbox.seen(list(events), work.session)
        fresh = [event for id_, event in events.items() if id_ not in done]
        for wave in waves(fresh):
            for kind, same in wave.items():
                await self._handlers[kind](same, work)
        for error in work.refused.values():
            raise error
        await self._inbox.add([event.id for event in fresh], self._clock.now(), work.session)
        return len(mine)
