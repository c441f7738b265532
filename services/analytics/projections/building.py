"""Building: a job reads the log from its beginning and folds it into new generations, beside the live ones.

It goes through phases. `reading`: up to the end of the log. `settling`: what follows of all events.
`tail`: what has come meanwhile, until little is left. `closing`: consumers wait for a moment, while the rest
is folded; then one write makes the new generations live, and consumers go on. `overlap`: for a while it
reads on behind the consumers, whose processes of an older release do not know the new generations.

To find drift, the last write makes consumers write both generations instead of swapping them (`following`).
Once they have consumed all that the replay has read, the two are equal at every instant, and are compared.

Each step commits its effect and its offsets in one transaction, so that it can be killed at any instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import structlog

from services.analytics.core.places import Place
from services.analytics.projections.catalogue import Catalogue
from services.analytics.projections.folds import Fold
from services.analytics.projections.store import PointerStore
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.database import Document
from services.shared.errors import PermanentError, TransientError
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import (
    DeadLetters,
    LogReader,
    LogSource,
    Partition,
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
"""Records that may be left when consumers are asked to wait."""
WAIT: Final = timedelta(seconds=1)
OVERLAP_WAIT: Final = timedelta(seconds=5)
PAGE: Final = 1000
MOST_DIFFERENCES: Final = 100
"""Differences that a report shows; all are counted."""
MAX_READERS: Final = 4

Cursor = dict[str, Any]


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
                return await self._follow(job, cursor)
            case "comparing":
                return self._compare(job, cursor, folds)
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
            "offsets": {_key(p): there.start for p, there in bounds.items()},
            "starts": {_key(p): there.start for p, there in bounds.items()},
            "ends": {_key(p): there.stop for p, there in bounds.items()},
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
            cursor["ends"] = {_key(p): there.stop for p, there in (await reading.reader.bounds()).items()}
        records = await self._fetch(reading, cursor)
        left = _left(cursor)
        if left == 0 and cursor["phase"] != "closing":
            cursor["ends"] = {_key(p): there.stop for p, there in (await reading.reader.bounds()).items()}
            left = _left(cursor)
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
            if phase == "reading" and left == 0:
                phase = "settling"
            elif phase == "tail" and left <= SOON:
                if await self._pointer.hold(job.id, work.session):
                    phase, cursor["ends"] = "closing", None
                else:
                    rest = self._clock.now() + WAIT
            elif not records and left:
                rest = self._clock.now() + WAIT  # a partition that cannot be read now
            return self._advance(job, {**cursor, "phase": phase}, len(records), rest=rest)

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
                return self._advance(job, {**cursor, "phase": "following"}, done)
        elif await self._pointer.swap(job.id, [place for _, place in folds], now, work.session):
            until = now + self._overlap
            after = {**cursor, "phase": "overlap", "until": until, "swapped_at": now}
            log.info("projection.swapped", projections=[place.projection for _, place in folds])
            return self._advance(job, after, done)
        return self._advance(job, {**cursor, "phase": "tail"}, done)  # it took too long: go on and try again

    async def _read_behind(self, job: Job, cursor: Cursor, folds: Sequence[tuple[Fold, Place]]) -> Effect:
        """Fold what consumers have consumed since: all of it once more, for some of them may be of a release
        that does not know what is live now. The others have folded it already, so it changes nothing."""
        reading = await self._reading(job, folds, cursor)
        if _left(cursor) <= 0:
            committed, _ = await self._source.marks(self._group, _topics(folds))
            cursor["ends"] = {
                key: max(at, committed.get(_partition(key), 0)) for key, at in cursor["offsets"].items()
            }
        records = await self._fetch(reading, cursor) if _left(cursor) > 0 else []
        events = self._decoded(records, folds)

        async def fold(work: UnitOfWork) -> Advance:
            await self._fold(events, records, folds, work, settled_later=False)
            now = self._clock.now()
            over = _left(cursor) <= 0 and now >= cursor["until"]
            rest = None if over or records else min(now + OVERLAP_WAIT, max(now, cursor["until"]))
            result = {
                "projections": {place.projection: place.version for _, place in folds},
                "cut_off": cursor["cut_off"],
            }
            return self._advance(
                job, cursor, len(records), rest=rest, finished=over, result=result if over else None
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
            key = _key(record.partition)
            if key in ends and cursor["phase"] == "overlap" and record.offset >= ends[key]:
                reading.reader.seek({record.partition: min(ends[key], offsets[key])})
                continue
            offsets[key] = record.offset + 1
        kept = [r for r in records if r.offset < offsets.get(_key(r.partition), 0)]
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
            reading.reader.seek({_partition(key): offset for key, offset in offsets.items()})
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

    def _advance(
        self,
        job: Job,
        cursor: Cursor,
        done: int,
        *,
        rest: Any = None,
        finished: bool = False,
        result: Any = None,
        counts: Mapping[str, int] | None = None,
        moved: bool = False,
    ) -> Advance:
        if done or moved or cursor["phase"] != job.cursor["phase"]:
            cursor = {**cursor, "moved_at": self._clock.now()}
        reached = job.done + done
        return Advance(
            cursor=cursor,
            done=done,
            total=reached + max(0, _left(cursor)),
            counts=counts or {},
            finished=finished,
            result=result,
            rest_until=rest,
        )

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

    # -- drift -----------------------------------------------------------------------------------------------

    async def _follow(self, job: Job, cursor: Cursor) -> Effect:
        """Wait until consumers have consumed all that was replayed."""
        topics = sorted({_partition(key).topic for key in cursor["ends"]})
        committed, _ = await self._source.marks(self._group, topics)
        # The last fetch may have read on behind the ends that it asked for.
        replayed = {key: max(end, cursor["offsets"].get(key, 0)) for key, end in cursor["ends"].items()}
        there = all(
            committed.get(_partition(key), 0) >= end
            for key, end in replayed.items()
            if end > cursor["starts"].get(key, 0)
        )
        await self._stop(job.id)

        async def follow(_: UnitOfWork) -> Advance:
            if not there:
                return self._advance(job, cursor, 0, rest=self._clock.now() + WAIT)
            compared = {"fold": 0, "what": 0, "after": "", "differences": [], "found": 0, "keys": 0}
            return self._advance(job, {**cursor, "phase": "comparing", "compared": compared}, 0)

        return follow

    def _compare(self, job: Job, cursor: Cursor, folds: Sequence[tuple[Fold, Place]]) -> Effect:
        """Compare the next keys of the live generation and the replayed one, in one snapshot."""
        at: dict[str, Any] = cursor["compared"]

        async def compare(work: UnitOfWork) -> Advance:
            if at["fold"] == len(folds):
                await self._pointer.abandon(job.id, work.session)
                names = ("differences", "found", "keys")
                result = {name: at[name] for name in names} | {"at": self._clock.now().isoformat()}
                return self._advance(job, cursor, 0, finished=True, result=result)
            fold, replayed = folds[at["fold"]]
            pointer, _ = await self._pointer.read(work.session)
            live = pointer.place(fold.name)
            if live is None or live.version != fold.version:
                raise PermanentError(
                    "swapped_meanwhile", "another generation went live during the comparison"
                )
            what = fold.compared[at["what"]]
            found, keys, after = await self._pointer.compare(
                live, replayed, what, fold.has, at["after"], PAGE, work.session
            )
            shown = [{"projection": fold.name, **each} for each in found]
            after_it = {
                **at,
                "differences": [*at["differences"], *shown][:MOST_DIFFERENCES],
                "found": at["found"] + len(found),
                "keys": at["keys"] + keys,
                "after": after or "",
                "what": at["what"] if after else at["what"] + 1,
            }
            if after_it["what"] == len(fold.compared):
                after_it |= {"fold": at["fold"] + 1, "what": 0}
            return self._advance(job, {**cursor, "compared": after_it}, 0, moved=True)

        return compare


def _topics(folds: Sequence[tuple[Fold, Place]]) -> list[str]:
    return sorted({event.topic for fold, _ in folds for event in fold.events})


def _left(cursor: Cursor) -> int:
    """Records between the cursor's offsets and its ends."""
    ends: Document = cursor["ends"] or {}
    return sum(max(0, end - cursor["offsets"].get(key, 0)) for key, end in ends.items())


def _key(partition: Partition) -> str:
    """`sangathan.members/3`, without a dot: it is the name of a field."""
    return f"{partition.topic.replace('.', ':')}/{partition.number}"


def _partition(key: str) -> Partition:
    topic, _, number = key.rpartition("/")
    return Partition(topic.replace(":", "."), int(number))
