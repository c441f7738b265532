"""The job that reconciles a roster: whose numbers they are, who is in the group, who is not.

Its input, the entries of the roster, is sealed, and deleted when the job ends; no number is kept anywhere
else. The phases, each in steps that commit together with the cursor:

match    entries become members, who are noted in `roster_seen`; nobody's numbers are counted
present  the members on the roster are reconciled with their seats
absent   of a complete roster: those with a seat, or seen before, who are not on it
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from services.groups.core.core import Core
from services.groups.core.domain import Group, Placement
from services.groups.rosters.domain import Reconciled, is_of_another_group, reconcile
from services.groups.rosters.entries import Entries
from services.groups.rosters.matching import whose
from services.groups.rosters.store import STRANGERS, RosterStore
from services.shared.contracts.groups import GroupMemberObserved
from services.shared.contracts.vocabulary import in_subtree, lineage
from services.shared.database.idempotency import IdempotentRequest
from services.shared.errors import NotFoundError, PermanentError, TransientError
from services.shared.identity import ALL_UNITS, Identity
from services.shared.jobs import Advance, Effect, Job, JobKind, RequestedJobs
from services.shared.messaging import UnitOfWork

KIND: Final = "roster"
BATCH: Final = 500
STEP_BYTES: Final = 32 * 1024
WRONG_GROUP: Final = "roster_of_another_group"
_IDS, _NUMBERS = b"i", b"n"


class RosterJob:
    def __init__(self, core: Core, store: RosterStore, requested: RequestedJobs) -> None:
        self._core = core
        self._store = store
        self._requested = requested
        self._jobs = core.runtime.jobs
        self._patience = timedelta(days=core.settings.reinvite_days)
        self.kind = JobKind(KIND, self.step)

    async def add(
        self,
        caller: Identity,
        group: Group,
        entries: Entries,
        taken_at: datetime,
        *,
        complete: bool,
        force: bool,
        request: IdempotentRequest | None = None,
    ) -> Job:
        """Raises: as `RequestedJobs.add`."""
        wanted = {
            "group_id": group.id,
            "taken_at": taken_at,
            "complete": complete,
            "force": force,
            "entries": len(entries),
            "unreadable": entries.unreadable,
        }
        return await self._requested.add(
            KIND, wanted, _lines(entries), caller, request, vault=self._core.vault
        )

    async def earlier(self, request: IdempotentRequest | None) -> Job | None:
        """The job that a repeated request added before. Raises: as `RequestedJobs.earlier`."""
        return await self._requested.earlier(request)

    async def step(self, job: Job) -> Effect:
        """Raises: `NotFoundError` for a group that the caller may not access any more; `PermanentError` for a
        roster of another group."""
        group = (await self._core.store.groups([job.input["group_id"]])).get(job.input["group_id"])
        if group is None:
            raise NotFoundError
        job.requested_by.check_access(group.unit)
        cursor: dict[str, Any] = job.cursor or {"phase": "match", "offset": 0, "after": None}
        match cursor["phase"]:
            case "match":
                return await self._match(job, group, cursor)
            case "present":
                return await self._present(job, group, cursor)
            case _:
                return await self._absent(job, group, cursor)

    async def _match(self, job: Job, group: Group, cursor: dict[str, Any]) -> Effect:
        content = await self._jobs.inputs.read(job.id, cursor["offset"], STEP_BYTES, self._core.vault)
        lines = content.split(b"\n")[:-1][:BATCH]
        if not lines:
            raise PermanentError("input_incomplete", "the job's input ends before its last entry")
        ids = [line[1:].decode() for line in lines if line[:1] == _IDS]
        numbers = [line[1:].decode() for line in lines if line[:1] == _NUMBERS]
        within = scope_of(job.requested_by, group)
        found, nobody = await self._whose(within, numbers)
        placements = await self._core.store.placements([*ids, *found])
        known = {id_: each for id_, each in placements.items() if in_subtree(each.unit, within)}
        # A member of whom no event has come yet may be on the next roster; an id may be anybody's.
        unknown = nobody + sum(id_ not in known for id_ in dict.fromkeys([*ids, *found]))
        here = sum(group.id in each.by_group for each in known.values())
        elsewhere = sum(_is_elsewhere(group, each) for each in known.values())
        offset = cursor["offset"] + sum(len(line) + 1 for line in lines)
        counts = {STRANGERS: unknown, "here": here, "elsewhere": elsewhere}
        sums = {name: job.counts.get(name, 0) + n for name, n in counts.items()}
        finished = job.done + len(lines) >= job.input["entries"]
        if finished and not job.input["force"] and is_of_another_group(sums["here"], sums["elsewhere"]):
            self._core.metrics.rosters.labels("refused").inc()
            raise PermanentError(
                WRONG_GROUP,
                f"{sums['elsewhere']} of the people on it have their seat in another group, "
                f"{sums['here']} in this one; send it with force=true if it is right",
            )
        goes_on = {"phase": "match", "offset": offset, "after": None}

        async def write(work: UnitOfWork) -> Advance:
            await self._store.see(job.id, known, self._jobs.clock.now(), work.session)
            return Advance(
                cursor={"phase": "present", "offset": 0, "after": None} if finished else goes_on,
                done=len(lines),
                total=job.input["entries"],
                counts=counts,
            )

        return write

    async def _whose(self, unit: str, numbers: Sequence[str]) -> tuple[list[str], int]:
        if numbers and self._core.members is None:
            raise TransientError("members: not configured")
        if self._core.members is None:
            return [], 0
        return await whose(self._core.members, unit, numbers)

    async def _present(self, job: Job, group: Group, cursor: dict[str, Any]) -> Effect:
        ids = await self._store.seen(job.id, cursor["after"], BATCH)
        more = len(ids) == BATCH
        goes_on = {"phase": "present", "offset": 0, "after": ids[-1] if ids else None}
        then = {"phase": "absent", "offset": 0, "after": None}

        async def write(work: UnitOfWork) -> Advance:
            counts = await self._reconcile(job, group, ids, set(ids), work)
            if not more and not job.input["complete"]:
                return await self._conclude(job, group, counts, work)
            return Advance(cursor=goes_on if more else then, counts=counts)

        return write

    async def _absent(self, job: Job, group: Group, cursor: dict[str, Any]) -> Effect:
        """Two sorted lists side by side: those with a seat, and those ever seen. The step takes the ids up to
        where both are known."""
        store, after = self._core.observations, cursor["after"]
        seated = [each.member_id for each in await store.seated(group, after, BATCH)]
        seen = [each.member_id for each in await store.in_group(group.id, after, BATCH)]
        ends = [ids[-1] for ids in (seated, seen) if len(ids) == BATCH]
        ids = sorted({id_ for id_ in (*seated, *seen) if not ends or id_ <= min(ends)})
        present = await self._store.among(job.id, ids)
        absent = [id_ for id_ in ids if id_ not in present]

        async def write(work: UnitOfWork) -> Advance:
            counts = await self._reconcile(job, group, absent, set(), work)
            if not ends:
                return await self._conclude(job, group, counts, work)
            return Advance(cursor={"phase": "absent", "offset": 0, "after": ids[-1]}, counts=counts)

        return write

    async def _reconcile(
        self, job: Job, group: Group, ids: Sequence[str], present: set[str], work: UnitOfWork
    ) -> dict[str, int]:
        """Three reads and four bulk writes, whatever the number of members."""
        core, session = self._core, work.session
        placements = await core.store.placements(ids, session)
        known = await core.observations.by_pair([(group.id, id_) for id_ in ids], session)
        result = reconcile(
            group,
            [placements[id_] for id_ in sorted(placements)],
            known,
            present,
            job.input["taken_at"],
            complete=job.input["complete"],
            patience=self._patience,
            now=core.runtime.server_clock.now(),
        )
        await core.observations.save(result.changes, session)
        await core.observations.renumber(result.sequences, session)
        work.stage_all(result.events, job.origin)
        work.after_commit(lambda: self._count(result))
        return _counts(result)

    async def _conclude(self, job: Job, group: Group, counts: Mapping[str, int], work: UnitOfWork) -> Advance:
        strangers = job.counts.get(STRANGERS, 0)
        nobody = {STRANGERS: strangers, "unreadable": job.input["unreadable"]}
        await self._store.conclude(
            group.id, job.input["taken_at"], nobody, work.session, complete=job.input["complete"]
        )
        await self._store.forget(job.id, work.session)
        work.after_commit(self._core.metrics.rosters.labels("reconciled").inc)
        sums = {name: job.counts.get(name, 0) + counts.get(name, 0) for name in (*counts, *job.counts)}
        return Advance(
            cursor=None,
            counts=counts,
            finished=True,
            result={
                "group_id": group.id,
                "complete": job.input["complete"],
                "entries": job.input["entries"],
                "unreadable": job.input["unreadable"],
                STRANGERS: strangers,
                **{name: sums.get(name, 0) for name in ("here", "elsewhere", "joined", "left")},
            },
        )

    def _count(self, result: Reconciled) -> None:
        for event, _ in result.events:
            if isinstance(event, GroupMemberObserved):
                self._core.metrics.observed.labels(event.state).inc()


def scope_of(caller: Identity, group: Group) -> str:
    """The units in which members are looked for: those of the caller, so that nobody learns of others. All
    units are those under the root of the group's own tree."""
    if caller.unit is None or caller.unit == ALL_UNITS:
        return lineage(group.unit)[0]
    return caller.unit


def _is_elsewhere(group: Group, placement: Placement) -> bool:
    seats = placement.by_group
    return group.id not in seats and any(seat.kind == group.kind for seat in seats.values())


def _counts(result: Reconciled) -> dict[str, int]:
    states = [event.state for event, _ in result.events if isinstance(event, GroupMemberObserved)]
    return {"joined": states.count("joined"), "left": states.count("left")}


async def _lines(entries: Entries) -> AsyncIterator[bytes]:
    for kind, values in ((_IDS, entries.ids), (_NUMBERS, entries.numbers)):
        for start in range(0, len(values), BATCH):
            part = values[start : start + BATCH]
            yield b"".join(kind + " ".join(value.split()).encode() + b"\n" for value in part)
