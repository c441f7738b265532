"""Projections: which are live, which are being built, and how far they are; rebuilding and looking for
drift."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from services.analytics.core.places import Place, Pointers
from services.analytics.projections.building import BUILD, DRIFT, Building
from services.analytics.projections.catalogue import Catalogue
from services.analytics.projections.folds import Fold
from services.analytics.projections.metrics import ProjectionMetrics
from services.analytics.projections.store import PointerStore
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.members import MemberErasureRequested
from services.shared.database import Lease
from services.shared.errors import ConflictError, FieldError, InvalidError, NotFoundError
from services.shared.identity import ALL_UNITS, Identity
from services.shared.ids import new_id
from services.shared.jobs import ENDED, Job, Jobs
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Handler, Outbox, UnitOfWork

log = structlog.get_logger(__name__)

ITSELF: Final = Identity("projections", frozenset(), ALL_UNITS)
"""Asks for the builds that a release needs."""
SETTLE_PACE: Final = Pace(0.2, 1.0)
TEND_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 60.0
KEEP_RETIRED: Final = timedelta(minutes=5)
"""How long a replaced generation is kept: longer than any query may take."""


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """One projection. `version` is the live one's, None before the first was built; `wanted` is this
    release's. `building` is the job that builds it."""

    name: str
    version: int | None
    wanted: int
    since: datetime | None
    building: Job | None


class Projections:
    def __init__(
        self,
        catalogue: Catalogue,
        pointers: Pointers,
        store: PointerStore,
        building: Building,
        jobs: Jobs,
        outbox: Outbox,
        clock: Clock,
        metrics: ProjectionMetrics,
        lease: Lease,
    ) -> None:
        self._catalogue = catalogue
        self._pointers = pointers
        self._store = store
        self._building = building
        self._jobs = jobs
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._lease = lease

    @property
    def names(self) -> list[str]:
        return list(self._catalogue.present)

    # -- following -------------------------------------------------------------------------------------------

    def handler(self, kind: type[Event]) -> Handler:
        """Folds events of one type wherever a projection that reads it is written now."""
        names = [name for name, fold in self._catalogue.present.items() if kind in fold.events]

        async def handle(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
            pointer = await self._pointers.of(work)
            for name in names:
                # What is erased is forgotten at once where it is being built, too.
                everywhere = kind is MemberErasureRequested
                places = pointer.every(name) if everywhere else pointer.written(name)
                for place in places:
                    fold = self._catalogue.find(name, place.version)
                    if fold is not None and kind in fold.events:
                        await fold.fold(events, work, place)

        return handle

    async def settle(self, stop: asyncio.Event) -> None:
        """Work out what follows of folded events, until `stop`; one process at a time does."""
        await poll_loop("projections-settle", self._settle, stop, SETTLE_PACE)

    async def _settle(self) -> Turn:
        if not await self._lease.hold():
            return Turn.NOTHING
        pointer = await self._pointers.read()
        settled = 0
        for name in self._catalogue.present:
            for place in pointer.written(name):
                fold = self._catalogue.find(name, place.version)
                if fold is None or await fold.is_settled(place):
                    continue
                settled += await self._outbox.transact(lambda work, f=fold, p=place: f.settle(p, work))  # type: ignore[misc]
        return Turn.MORE if settled else Turn.NOTHING

    # -- building --------------------------------------------------------------------------------------------

    async def states(self) -> list[ProjectionState]:
        pointer, shadows = await self._store.read()
        found = {job_id: await self._jobs.get(job_id) for job_id in {shadow.job for shadow in shadows}}
        states = []
        for name, fold in self._catalogue.present.items():
            at = pointer.place(name)
            jobs = [found[s.job] for s in shadows if s.place.projection == name]
            going_on = (job for job in jobs if job and job.kind == BUILD and job.state not in ENDED)
            version, since = at.version if at else None, pointer.since.get(name)
            states.append(ProjectionState(name, version, fold.version, since, next(going_on, None)))
        return states

    async def rebuild(self, caller: Identity, names: Sequence[str], *, accept_cut_off: bool = False) -> Job:
        """Begin to build these projections anew, in one job.

        Raises: `InvalidError` for an unknown name; `ConflictError` while one of them is being built.
        """
        folds = self._named(names)
        job = await self._begin(BUILD, caller, folds, accept_cut_off=accept_cut_off)
        log.info("projection.build_requested", projections=sorted(names), by=caller.subject)
        return job

    async def look_for_drift(self, caller: Identity, names: Sequence[str]) -> Job:
        """Begin to replay the log and compare what it makes with what is live.

        Raises: `InvalidError` for an unknown name; `ConflictError` while one of them is built or compared.
        """
        return await self._begin(DRIFT, caller, self._named(names), accept_cut_off=False)

    async def drift(self) -> Job:
        """The newest comparison.

        Raises: `NotFoundError` when there was none in the last 30 days.
        """
        found = await self._jobs.page(kind=DRIFT, state=None, root=None, after=None, limit=1)
        if not found:
            raise NotFoundError
        return found[0]

    def _named(self, names: Sequence[str]) -> list[Fold]:
        unknown = [n for n, name in enumerate(names) if name not in self._catalogue.present]
        if unknown:
            raise InvalidError([FieldError(f"/names/{n}", "no projection of this name") for n in unknown])
        return [self._catalogue.present[name] for name in dict.fromkeys(names)]

    async def _begin(
        self, kind: str, caller: Identity, folds: Sequence[Fold], *, accept_cut_off: bool
    ) -> Job:
        job_id = new_id()

        async def begin(work: UnitOfWork) -> Job:
            pointer, shadows = await self._store.read(work.session)
            for fold in folds:
                if busy := next((s for s in shadows if s.place.projection == fold.name), None):
                    raise ConflictError(
                        "projection-busy", "it is being built or compared", extra={"job": busy.job}
                    )
                if kind == DRIFT and pointer.place(fold.name) is None:
                    raise ConflictError("projection-not-live", "it has not been built yet")
            versions = {fold.name: fold.version for fold in folds}
            places = await self._store.begin(versions, job_id, work.session)
            wanted = {"places": _as_input(places), "accept_cut_off": accept_cut_off}
            return await self._jobs.add(kind, wanted, caller, id=job_id, work=work)

        return await self._outbox.transact(begin)

    async def tend(self, stop: asyncio.Event) -> None:
        """Ask for the builds that this release needs, then give up what failed builds left and show progress,
        until `stop`."""
        asked = False

        async def turn() -> Turn:
            nonlocal asked
            await self._give_up()
            if not asked:
                await self._ensure()
                asked = True
            await self._building.close(idle_seconds=IDLE_SECONDS)
            await self._store.sweep(self._clock.now(), KEEP_RETIRED)
            self._metrics.show(await self.states(), self._clock.now())
            return Turn.NOTHING

        try:
            await poll_loop("projections", turn, stop, Pace.every(TEND_SECONDS))
        finally:
            await self._building.close()

    async def _ensure(self) -> None:
        """Build what is not live, or only in an earlier version. An older release than the live one's builds
        nothing by itself, or two releases side by side would build for ever."""
        pointer, shadows = await self._store.read()
        busy = {shadow.place.projection for shadow in shadows}
        stale = [
            fold
            for name, fold in self._catalogue.present.items()
            if name not in busy and ((at := pointer.place(name)) is None or at.version < fold.version)
        ]
        if not stale:
            return
        try:
            await self._begin(BUILD, ITSELF, stale, accept_cut_off=False)
        except ConflictError:
            return  # another process was first
        log.info("projection.build_needed", projections=[fold.name for fold in stale])

    async def _give_up(self) -> None:
        """Forget generations whose job has ended without a swap."""
        _, shadows = await self._store.read()
        for job_id in {shadow.job for shadow in shadows}:
            job = await self._jobs.get(job_id)
            if job is None or job.state in ENDED:
                await self._store.abandon(job_id)
                log.warning("projection.build_abandoned", job=job_id, state=job.state if job else None)


def _as_input(places: Mapping[str, Place]) -> dict[str, Any]:
    return {name: {"version": p.version, "generation": p.generation} for name, p in places.items()}
