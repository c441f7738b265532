"""Building: a job reads the log from its beginning and folds it into new generations, beside the live ones.

It goes through phases. `reading`: up to the end of the log. `settling`: what follows of all events.
`tail`: what has come meanwhile, until little is left. `closing`: consumers wait for a moment, while the rest
is folded; then one write makes the new generations live, and consumers go on. `overlap`: for a while it
reads on behind the consumers, whose processes of an older release do not know the new generations.

To find drift, the last write makes consumers write both generations instead of swapping them, and the two are
compared: see `drift.py`.

Each step commits its effect and its offsets in one transaction, so that it can be killed at any instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from services.analytics.core.places import Place
from services.analytics.projections.catalogue import Catalogue
from services.analytics.projections.drift import Comparison
from services.analytics.projections.folds import Fold
from services.analytics.projections.progress import WAIT, Cursor, advance, key_of, partition_of, remaining
from services.analytics.projections.store import PointerStore
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.errors import PermanentError, TransientError
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import (
    DeadLetters,
    LogReader,
    LogSource,
    Record,
    UnitOfWork,
    decode_record,
    ignored_type,
    letter_id,
    waves,
)

log = structlog.get_logger(__name__)

BUILD: Final = "projection_build"
DRIFT: Final = "projection_drift"
BATCH: Final = 2000
LEAST_BATCH: Final = 50
FETCH_SECONDS: Final = 0.25
SOON: Final = 1000
"""Records that may be left when the end of the log counts as reached, and when consumers must wait."""
OVERLAP_WAIT: Final = timedelta(seconds=5)
MAX_READERS: Final = 4


@dataclass(slots=True)
class _Reading:
    """A reader, and where it is; `asked` are the offsets of the last batch and its size."""

    reader: LogReader
    at: dict[str, int]
    size: int = BATCH
    asked: dict[str, int] = field(default_factory=dict)
    used_at: float = 0.0


class Building:
    """The job kinds `projection_build` and `projection_drift`."""

    def __init__(
        self,
        catalogue: Catalogue,
        pointer: PointerStore,
        source: LogSource,
        letters: DeadLetters,
        clock: Clock,
        *,
        group: str,
        overlap: timedelta,
    ) -> None:
        self._catalogue = catalogue
        self._pointer = pointer
        self._source = source
        self._letters = letters
        self._clock = clock
        self._group = group
        self._overlap = overlap
        self._comparison = Comparison(pointer, source, clock, group)
        self._readings: dict[str, _Reading] = {}
        self.kinds = (JobKind(BUILD, self.step), JobKind(DRIFT, self.step))

    async def step(self, job: Job) -> Effect:
        """Prepare the next step.

        Raises: `TransientError` also where another release has to build this version; `PermanentError` when
        a projection that is live would be built from a log that has lost its beginning.
        """
        folds = self._folds(job)
        if job.cursor is None:
            return await self._begin(job, folds)
        cursor: Cursor = dict(job.cursor)
        match cursor["phase"]:
            case "settling":
                return self._settle(cursor, folds)
            case "following":
                await self._stop(job.id)
                return await self._comparison.follow(job, cursor)
            case "comparing":
                return self._comparison.compare(job, cursor, folds)
            case "overlap":
                return await self._read_behind(job, cursor, folds)
            case _:
                return await self._read(job, cursor, folds)

    def _folds(self, job: Job) -> list[tuple[Fold, Place]]:
        folds = []
        for name, at in job.input["places"].items():
            fold = self._catalogue.find(name, at["version"])
            if fold is None:
                raise TransientError("another release builds this version")
            folds.append((fold, Place(name, at["version"], at["generation"])))
        return folds

    # -- reading ---------------------------------------------------------------------------------------------

    async def _begin(self, job: Job, folds: Sequence[tuple[Fold, Place]]) -> Effect:
        for fold, place in folds:
            await fold.create(place)
        reading = await self._reading(job, folds, None)
        bounds = await reading.reader.bounds()
        cut_off = sorted({partition.topic for partition, there in bounds.items() if there.start > 0})
        if cut_off and not job.input["accept_cut_off"]:
            pointer, _ = await self._pointer.read()
            if any(pointer.place(place.projection) for _, place in folds):
                raise PermanentError("log_cut_off", f"{', '.join(cut_off)} has lost its first records")
        cursor: Cursor = {
            "phase": "reading",
            "offsets": {key_of(p): there.start for p, there in bounds.items()},
            "starts": {key_of(p): there.start for p, there in bounds.items()},
            "ends": {key_of(p): there.stop for p, there in bounds.items()},
            "begun_at": self._clock.now(),
            "moved_at": self._clock.now(),
            "cut_off": cut_off,
        }
        total = sum(len(there) for there in bounds.values())

        async def begin(_: UnitOfWork) -> Advance:
            return Advance(cursor=cursor, total=total)

        return begin

    async def _read(self, job: Job, cursor: Cursor, folds: Sequence[tuple[Fold, Place]]) -> Effect:
        """Fold the next records in the phases `reading`, `tail` and `closing`."""
        reading = await self._reading(job, folds, cursor)
        if cursor["phase"] == "closing" and cursor["ends"] is None:
            # Asked for after the hold was committed: what any consumer has fetched before it is below these.
            cursor["ends"] = {key_of(p): there.stop for p, there in (await reading.reader.bounds()).items()}
        records = await self._fetch(reading, cursor)
        left = remaining(cursor)
        if left == 0 and cursor["phase"] != "closing":
            cursor["ends"] = {key_of(p): there.stop for p, there in (await reading.reader.bounds()).items()}
            left = remaining(cursor)
        events = self._decoded(records, folds)

        async def fold(work: UnitOfWork) -> Advance:
            await self._fold(events, records, folds, work, settled_later=cursor["phase"] == "reading")
            if cursor["phase"] == "closing" and left == 0:
                return await self._close(job, cursor, folds, len(records), work)
            if cursor["phase"] == "tail":
                for fold_, place in folds:
                    await fold_.settle(place, work)
            rest = None
            phase = cursor["phase"]
            # Not none: while events go on coming, some are always left.
            if phase == "reading" and left <= SOON:
                phase = "settling"
            elif phase == "tail" and left <= SOON:
                if await self._pointer.hold(job.id, work.session):
                    phase, cursor["ends"] = "closing", None
                else:
                    rest = self._clock.now() + WAIT
            elif not records and left:
                rest = self._clock.now() + WAIT  # a partition that cannot be read now
            return advance(job, {**cursor, "phase": phase}, len(records), self._clock.now(), rest=rest)

        return fold

    async def _close(
        self,
        job: Job,
        cursor: Cursor,
        folds: Sequence[tuple[Fold, Place]],
        done: int,
        work: UnitOfWork,
    ) -> Advance:
        """End the hold: swap, or begin to follow."""
        now = self._clock.now()
        if job.kind == DRIFT:
            if await self._pointer.follow(job.id, work.session):
                return advance(job, {**cursor, "phase": "following"}, done, now)
        elif await self._pointer.swap(job.id, [place for _, place in folds], now, work.session):
            until = now + self._overlap
            after = {**cursor, "phase": "overlap", "until": until, "swapped_at": now}
            log.info("projection.swapped", projections=[place.projection for _, place in folds])
            return advance(job, after, done, now)
        return advance(job, {**cursor, "phase": "tail"}, done, now)  # it took too long: go on and try again

    async def _read_behind(self, job: Job, cursor: Cursor, folds: Sequence[tuple[Fold, Place]]) -> Effect:
        """Fold what consumers have consumed since: all of it once more, for some of them may be of a release
        that does not know what is live now. The others have folded it already, so it changes nothing."""
        reading = await self._reading(job, folds, cursor)
        if remaining(cursor) <= 0:
            committed, _ = await self._source.marks(self._group, _topics(folds))
            cursor["ends"] = {
                key: max(at, committed.get(partition_of(key), 0)) for key, at in cursor["offsets"].items()
            }
        records = await self._fetch(reading, cursor) if remaining(cursor) > 0 else []
        events = self._decoded(records, folds)

        async def fold(work: UnitOfWork) -> Advance:
            await self._fold(events, records, folds, work, settled_later=False)
            now = self._clock.now()
            over = remaining(cursor) <= 0 and now >= cursor["until"]
            rest = None if over or records else min(now + OVERLAP_WAIT, max(now, cursor["until"]))
            result = {
                "projections": {place.projection: place.version for _, place in folds},
                "cut_off": cursor["cut_off"],
            }
            return advance(
                job, cursor, len(records), now, rest=rest, finished=over, result=result if over else None
            )

        if not records and self._clock.now() >= cursor["until"]:
            await self._stop(job.id)
        return fold

    async def _fold(
        self,
        events: Sequence[tuple[Record, Envelope[Event]]],
        records: Sequence[Record],
        folds: Sequence[tuple[Fold, Place]],
        work: UnitOfWork,
        *,
        settled_later: bool,
    ) -> None:
        """Fold events in the order of the log. A record that an operator has discarded has no effect here
        either; one that does not decode, or leaps, has none until it is replayed."""
        discarded = await self._letters.discarded(records, work.session) if records else set()
        wanted = [event for record, event in events if letter_id(record) not in discarded]
        for wave in waves(wanted):
            for kind, of_kind in wave.items():
                for fold, place in folds:
                    if kind in fold.events:
                        await fold.fold(of_kind, work, place, settled_later=settled_later)

    def _decoded(
        self, records: Sequence[Record], folds: Sequence[tuple[Fold, Place]]
    ) -> list[tuple[Record, Envelope[Event]]]:
        handled = {event for fold, _ in folds for event in fold.events}
        now = self._clock.now()
        wanted = (record for record in records if ignored_type(record, handled) is None)
        decoded = ((record, decode_record(record, now).envelope) for record in wanted)
        return [(record, event) for record, event in decoded if event is not None]

    async def _fetch(self, reading: _Reading, cursor: Cursor) -> list[Record]:
        """The next records before the cursor's ends, and the offsets after them in the cursor."""
        reading.used_at = asyncio.get_running_loop().time()
        try:
            records = await reading.reader.fetch(reading.size, FETCH_SECONDS)
        except TransientError:  # only a new connection cures a client that has failed internally
            self._readings = {id_: each for id_, each in self._readings.items() if each is not reading}
            await reading.reader.stop()
            raise
        offsets, ends = dict(cursor["offsets"]), cursor["ends"]
        for record in records:
            key = key_of(record.partition)
            if key in ends and cursor["phase"] == "overlap" and record.offset >= ends[key]:
                reading.reader.seek({record.partition: min(ends[key], offsets[key])})
                continue
            offsets[key] = record.offset + 1
        kept = [r for r in records if r.offset < offsets.get(key_of(r.partition), 0)]
        reading.at, cursor["offsets"] = offsets, offsets
        return kept

    async def _reading(
        self, job: Job, folds: Sequence[tuple[Fold, Place]], cursor: Cursor | None
    ) -> _Reading:
        """The job's reader, at the cursor's offsets. Where a step was not committed, the next is smaller."""
        reading = self._readings.get(job.id)
        if reading is None:
            while len(self._readings) >= MAX_READERS:
                await self._stop(next(iter(self._readings)))
            reading = self._readings[job.id] = _Reading(await self._source.reader(_topics(folds)), {})
        if cursor is None:
            return reading
        offsets = cursor["offsets"]
        if reading.at != offsets:
            if reading.asked == offsets:
                reading.size = max(LEAST_BATCH, reading.size // 2)
            reading.reader.seek({partition_of(key): offset for key, offset in offsets.items()})
            reading.at = dict(offsets)
        else:
            reading.size = min(BATCH, reading.size * 2)
        reading.asked = dict(offsets)
        return reading

    async def _stop(self, job_id: str) -> None:
        if reading := self._readings.pop(job_id, None):
            await reading.reader.stop()

    async def close(self, *, idle_seconds: float = 0.0) -> None:
        """Stop the readers that have been idle for so long: another process has the job now, or it ended."""
        now = asyncio.get_running_loop().time()
        for job_id, reading in list(self._readings.items()):
            if now - reading.used_at >= idle_seconds:
                await self._stop(job_id)

    # -- settling --------------------------------------------------------------------------------------------

    def _settle(self, cursor: Cursor, folds: Sequence[tuple[Fold, Place]]) -> Effect:
        """Work out what follows of all events, some subjects at a time."""

        async def settle(work: UnitOfWork) -> Advance:
            number, after = cursor.get("settled", (0, ""))
            phase = "settling"
            if number == len(folds):
                phase = "tail"
            else:
                fold, place = folds[number]
                reached = await fold.settle_after(place, after, work)
                number, after = (number, reached) if reached is not None else (number + 1, "")
            settled = {**cursor, "phase": phase, "settled": (number, after), "moved_at": self._clock.now()}
            return Advance(cursor=settled)

        return settle


def _topics(folds: Sequence[tuple[Fold, Place]]) -> list[str]:
    return sorted({event.topic for fold, _ in folds for event in fold.events})
