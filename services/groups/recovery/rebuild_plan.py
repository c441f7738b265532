"""The rebuild plan: the decisions of this service restored from its own topic, none of them made again.

Restoring stages no event. The event that completes the answer to a member's event also marks that one as
done, so that it is not answered again; `Placement.member_sequence` says the same, but older events lack it.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.groups.core.store import CoreStore
from services.groups.recovery.domain import (
    GroupEvent,
    PlacementEvent,
    UnknownGroupError,
    completes_answer,
    restored_group,
    restored_placement,
    restored_unit,
    retired_unit,
    settled_group,
)
from services.groups.recovery.store import RecoveryStore
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    PlacementSnapshot,
    UnitSucceeded,
    UnitUpserted,
)
from services.shared.errors import PermanentError
from services.shared.messaging import Inbox, UnitOfWork, newer
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime, Successions


class RestoreHandlers:
    def __init__(self, store: CoreStore, inbox: Inbox, clock: Clock, successions: Successions) -> None:
        self._successions = successions
        self._store = store
        self._inbox = inbox
        self._clock = clock

    async def units(self, events: Sequence[Envelope[UnitUpserted]], work: UnitOfWork) -> None:
        known = await self._store.units([e.subject for e in events], work.session)
        news = newer(events, lambda code: known[code].version if code in known else 0, work)
        units = [restored_unit(e, known.get(e.subject)) for e in news]
        await self._store.save_units(units, known, work.session)

    async def retire(self, events: Sequence[Envelope[UnitSucceeded]], work: UnitOfWork) -> None:
        known = await self._store.units([e.subject for e in events], work.session)
        news = newer(events, lambda code: known[code].version if code in known else 0, work)
        units = [retired_unit(e, known.get(e.subject)) for e in news]
        await self._store.save_units(units, known, work.session)
        await self._successions.hear(events, work)

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
        answered = [e.causation_id for e in events if e.causation_id and completes_answer(e.data)]
        await self._mark_done(answered, work)

    async def _mark_done(self, causes: Sequence[str], work: UnitOfWork) -> None:
        ids = list(dict.fromkeys(causes))
        seen = await self._inbox.seen(ids, work.session)
        await self._inbox.add([i for i in ids if i not in seen], self._clock.now(), work.session)


def plan(runtime: Runtime) -> Plan:
    core, store = CoreStore(runtime.database), RecoveryStore(runtime.database)
    handlers = RestoreHandlers(core, Inbox(runtime.database), runtime.clock, runtime.successions)
    about_groups = (GroupCreated, GroupUpdated, GroupFilled, GroupInviteChanged, GroupSnapshot)
    about_placements = (
        GroupMemberAssigned,
        GroupMemberWaiting,
        GroupMemberRemoved,
        GroupMemberRedrawn,
        PlacementSnapshot,
    )
    return Plan(
        summary=lambda: _summary(store),
        restores={
            UnitUpserted: handlers.units,
            UnitSucceeded: handlers.retire,
            **dict.fromkeys(about_groups, handlers.groups),
            **dict.fromkeys(about_placements, handlers.placements),
        },
        finish=lambda: settle_groups(core, store),
    )


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
