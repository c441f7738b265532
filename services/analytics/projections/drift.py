"""Drift: the live generation compared with one that was replayed.

`following`: consumers write both, and it waits until they have consumed all that the replay has read. Then
the two are equal at every instant. `comparing`: key by key, each page in one snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from services.analytics.core.places import Place
from services.analytics.projections.folds import Fold
from services.analytics.projections.progress import WAIT, Cursor, advance, partition_of
from services.analytics.projections.store import PointerStore
from services.shared.clock import Clock
from services.shared.errors import PermanentError
from services.shared.jobs import Advance, Effect, Job
from services.shared.messaging import LogSource, UnitOfWork

PAGE: Final = 1000
MOST_DIFFERENCES: Final = 100
"""Differences that a report shows; all are counted."""


class Comparison:
    """The last phases of the job that looks for drift."""

    def __init__(self, pointer: PointerStore, source: LogSource, clock: Clock, group: str) -> None:
        self._pointer = pointer
        self._source = source
        self._clock = clock
        self._group = group

    async def follow(self, job: Job, cursor: Cursor) -> Effect:
        """Wait until consumers have consumed all that was replayed."""
        topics = sorted({partition_of(key).topic for key in cursor["ends"]})
        committed, _ = await self._source.marks(self._group, topics)
        # The last fetch may have read on behind the ends that it asked for.
        replayed = {key: max(end, cursor["offsets"].get(key, 0)) for key, end in cursor["ends"].items()}
        there = all(
            committed.get(partition_of(key), 0) >= end
            for key, end in replayed.items()
            if end > cursor["starts"].get(key, 0)
        )

        async def wait(_: UnitOfWork) -> Advance:
            if not there:
                return advance(job, cursor, 0, self._clock.now(), rest=self._clock.now() + WAIT)
            compared = {"fold": 0, "what": 0, "after": "", "differences": [], "found": 0, "keys": 0}
            return advance(job, {**cursor, "phase": "comparing", "compared": compared}, 0, self._clock.now())

        return wait

    def compare(self, job: Job, cursor: Cursor, folds: Sequence[tuple[Fold, Place]]) -> Effect:
        """Compare the next keys of the live generation and the replayed one, in one snapshot."""
        at: dict[str, Any] = cursor["compared"]

        async def page(work: UnitOfWork) -> Advance:
            if at["fold"] == len(folds):
                await self._pointer.abandon(job.id, work.session)
                names = ("differences", "found", "keys")
                result = {name: at[name] for name in names} | {"at": self._clock.now().isoformat()}
                return advance(job, cursor, 0, self._clock.now(), finished=True, result=result)
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
            return advance(job, {**cursor, "compared": after_it}, 0, self._clock.now(), moved=True)

        return page
