"""The rebuild plan: the decisions of this service restored from its own topic, none of them made again.

Restoring stages no event. `Placement.member_sequence` keeps a member's event from being answered again, but
not from being heard: the facts that the policy asks about are learnt from it. Where events lack that number,
or the member is out, the event that completes the answer marks the member's event as done.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.groups.core.seating.service import queued
from services.groups.core.seating.store import SeatStore, waiting_row
from services.groups.core.store import CoreStore, PolicyVersions
from services.groups.recovery.domain import (
    GroupEvent,
    PlacementEvent,
    UnknownGroupError,
    marks_cause,
    restored_group,
    restored_placement,
    restored_policy,
    restored_unit,
    settled_group,
)
from services.groups.recovery.store import RecoveryStore
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupArchived,
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    PlacementSnapshot,
    PolicyApplied,
    UnitUpserted,
)
from services.shared.errors import PermanentError
from services.shared.messaging import Inbox, UnitOfWork, newer
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime


class RestoreHandlers:
    def __init__(self, store: CoreStore, policies: PolicyVersions, inbox: Inbox, clock: Clock) -> None:
        self._store = store
        self._policies = policies
        self._inbox = inbox
        self._clock = clock

    async def units(self, events: Sequence[Envelope[UnitUpserted]], work: UnitOfWork) -> None:
        known = await self._store.units([e.subject for e in events], work.session)
        news = newer(events, lambda code: known[code].version if code in known else 0, work)
        units = [restored_unit(e, known.get(e.subject)) for e in news]
        await self._store.save_units(units, known, work.session)

    async def groups(self, events: Sequence[Envelope[GroupEvent]], work: UnitOfWork) -> None:
        """Raises: `PermanentError` for a group whose beginning is missing."""
        known = await self._store.groups([e.subject for e in events], work.session)
        news = newer(events, lambda id_: known[id_].version if id_ in known else 0, work)
        try:
            groups = [restored_group(e, known.get(e.subject)) for e in news]
        except UnknownGroupError:
            raise PermanentError("unknown_group") from None
        await self._store.save_groups(groups, known, work.session)

    async def placements(self, events: Sequence[Envelope[PlacementEvent]], work: UnitOfWork) -> None:
        known = await self._store.placements([e.subject for e in events], work.session)
        news = newer(events, lambda id_: known[id_].sequence if id_ in known else 0, work)
        placements = [restored_placement(e, known.get(e.subject)) for e in news]
        await self._store.save_placements(placements, known, work.session)
        answered = [e.causation_id for e in events if e.causation_id and marks_cause(e.data)]
        await self._mark_done(answered, work)

    async def policies(self, events: Sequence[Envelope[PolicyApplied]], work: UnitOfWork) -> None:
        for event in events:
            await self._policies.save(restored_policy(event), work.session)

    async def _mark_done(self, causes: Sequence[str], work: UnitOfWork) -> None:
        ids = list(dict.fromkeys(causes))
        seen = await self._inbox.seen(ids, work.session)
        await self._inbox.add([i for i in ids if i not in seen], self._clock.now(), work.session)


def plan(runtime: Runtime) -> Plan:
    database = runtime.database
    core, store = CoreStore(database), RecoveryStore(database)
    handlers = RestoreHandlers(core, PolicyVersions(database), Inbox(database), runtime.clock)
    about_groups = (
        *(GroupCreated, GroupUpdated, GroupFilled),
        *(GroupInviteChanged, GroupArchived, GroupSnapshot),
    )
    about_placements = (GroupMemberAssigned, GroupMemberWaiting, GroupMemberRemoved, PlacementSnapshot)
    return Plan(
        summary=lambda: _summary(store),
        restores={
            UnitUpserted: handlers.units,
            PolicyApplied: handlers.policies,
            **dict.fromkeys(about_groups, handlers.groups),
            **dict.fromkeys(about_placements, handlers.placements),
        },
        finish=lambda: settle(core, store, SeatStore(database)),
    )


async def settle(core: CoreStore, store: RecoveryStore, seats: SeatStore) -> None:
    """Count the seats of every group, and write the waiting lists, from the placements. It may be
    repeated."""
    await settle_groups(core, store)
    rows = [
        waiting_row(placement.member_id, seat)
        async for placement in store.waiting_placements()
        for seat in queued(placement)
    ]
    await seats.replace_waiting(rows)


async def settle_groups(core: CoreStore, store: RecoveryStore) -> None:
    """Count the seats taken in every group from the placements, and name groups without a name.

    It may be repeated.
    """
    taken = await store.seats_taken()
    async for groups in store.all_groups():
        units = await core.units({group.unit for group in groups})
        await store.change_groups(
            [settled_group(group, taken.get(group.id, 0), units.get(group.unit)) for group in groups]
        )


async def _summary(store: RecoveryStore) -> Sequence[str]:
    counts = await store.count()
    placed = ", ".join(f"{n} {state}" for state, n in sorted(counts.placements.items()))
    lines = [f"{counts.units} units, {counts.groups} groups; placements: {placed or 'none'}"]
    if counts.links_lost:
        lines.append(f"{counts.links_lost} groups need their invite link again: links are not in the log.")
    if counts.groups:
        lines.append("Groups have their usual names: changed ones are not in the log.")
    if counts.units_unnamed:
        lines.append(f"{counts.units_unnamed} units have their code for a name: load the tree again.")
    return lines
