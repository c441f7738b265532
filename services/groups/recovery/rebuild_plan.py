"""The rebuild plan: the decisions of this service restored from its own topic, none of them made again.

Restoring stages no event. `Placement.member_sequence` keeps a member's event from being answered again, but
not from being heard: the facts that the policy asks about are learnt from it. Where events lack that number,
or the member is out, the event that completes the answer marks the member's event as done.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.groups.core.levels import SHIPPED
from services.groups.core.observations.domain import Changed, observation_id
from services.groups.core.observations.store import ObservationStore
from services.groups.core.seating.service import queued
from services.groups.core.seating.store import SeatStore, waiting_row
from services.groups.core.store import CoreStore, PolicyVersions
from services.groups.recovery.domain import (
    GroupEvent,
    ObservationEvent,
    PlacementEvent,
    UnknownGroupError,
    marks_cause,
    restored_group,
    restored_levels,
    restored_observation,
    restored_placement,
    restored_policy,
    restored_unit,
    retired_unit,
    settled_group,
    settled_observation,
)
from services.groups.recovery.store import RecoveryStore
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupAdminsChanged,
    GroupArchived,
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupInviteLapsed,
    GroupMemberAssigned,
    GroupMemberObserved,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    ObservationSnapshot,
    PlacementSnapshot,
    PolicyApplied,
    UnitSucceeded,
    UnitUpserted,
)
from services.shared.errors import PermanentError
from services.shared.messaging import Inbox, UnitOfWork, newer
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime, Successions


class RestoreHandlers:
    def __init__(
        self,
        store: CoreStore,
        policies: PolicyVersions,
        observations: ObservationStore,
        inbox: Inbox,
        clock: Clock,
        successions: Successions,
    ) -> None:
        self._successions = successions
        self._store = store
        self._policies = policies
        self._observations = observations
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
        answered = [e.causation_id for e in events if e.causation_id and marks_cause(e.data)]
        await self._mark_done(answered, work)

    async def policies(self, events: Sequence[Envelope[PolicyApplied]], work: UnitOfWork) -> None:
        for event in events:
            await self._policies.save(restored_policy(event), work.session)

    async def observations(self, events: Sequence[Envelope[ObservationEvent]], work: UnitOfWork) -> None:
        """They share the sequence of the member's placement; a snapshot repeats an earlier one."""
        pairs = [(e.data.group_id, e.subject) for e in events]
        known = await self._observations.by_pair(pairs, work.session)
        placements = await self._store.placements([e.subject for e in events], work.session)
        after = dict(known)
        sequences: dict[str, int] = {}
        for event in events:
            id_ = observation_id(event.data.group_id, event.subject)
            before, placement = after.get(id_), placements.get(event.subject)
            if before is None or event.sequence > before.sequence:
                after[id_] = restored_observation(event, before)
            if placement is not None:
                reached = sequences.get(event.subject, placement.sequence)
                sequences[event.subject] = max(reached, event.sequence)
        await self._observations.save(
            [Changed(known.get(i), each) for i, each in after.items()], work.session
        )
        await self._observations.renumber(sequences, work.session)

    async def _mark_done(self, causes: Sequence[str], work: UnitOfWork) -> None:
        ids = list(dict.fromkeys(causes))
        seen = await self._inbox.seen(ids, work.session)
        await self._inbox.add([i for i in ids if i not in seen], self._clock.now(), work.session)


def plan(runtime: Runtime) -> Plan:
    database = runtime.database
    core, store = CoreStore(database), RecoveryStore(database)
    policies, observations = PolicyVersions(database), ObservationStore(database)
    handlers = RestoreHandlers(
        core, policies, observations, Inbox(database), runtime.clock, runtime.successions
    )
    about_groups = (
        *(GroupCreated, GroupUpdated, GroupFilled),
        *(GroupInviteChanged, GroupAdminsChanged, GroupArchived, GroupSnapshot),
    )
    about_placements = (
        *(GroupMemberAssigned, GroupMemberWaiting, GroupMemberRemoved),
        *(GroupMemberRedrawn, PlacementSnapshot),
    )
    about_observations = (GroupMemberObserved, GroupInviteLapsed, ObservationSnapshot)
    return Plan(
        summary=lambda: _summary(store),
        restores={
            UnitUpserted: handlers.units,
            PolicyApplied: handlers.policies,
            UnitSucceeded: handlers.retire,
            **dict.fromkeys(about_groups, handlers.groups),
            **dict.fromkeys(about_placements, handlers.placements),
            **dict.fromkeys(about_observations, handlers.observations),
        },
        finish=lambda: finish(core, policies, observations, store, SeatStore(database)),
    )


async def finish(
    core: CoreStore,
    policies: PolicyVersions,
    observations: ObservationStore,
    store: RecoveryStore,
    seats: SeatStore,
) -> None:
    """Settle what was restored, and set the levels of the tree, which are not in the log, by those of its
    units."""
    await settle(core, observations, store, seats)
    known, policy = await policies.levels_set(), await policies.newest()
    told = known or (policy.tree if policy else SHIPPED)
    levels = restored_levels(await core.levels_used(), told)
    if levels != (known or SHIPPED):
        await policies.set_levels(levels)


async def settle(
    core: CoreStore, observations: ObservationStore, store: RecoveryStore, seats: SeatStore
) -> None:
    """Count the seats of every group, write the waiting lists, and settle what rosters showed, from the
    placements. It may be repeated."""
    await settle_groups(core, store)
    rows = [
        waiting_row(placement.member_id, seat)
        async for placement in store.waiting_placements()
        for seat in queued(placement)
    ]
    await seats.replace_waiting(rows)
    async for known in store.all_observations():
        groups = await core.groups({each.group_id for each in known})
        placements = await core.placements({each.member_id for each in known})
        settled = [
            (each, settled_observation(each, groups[each.group_id], placements.get(each.member_id)))
            for each in known
            if each.group_id in groups
        ]
        await observations.settle([Changed(*pair) for pair in settled])
    await store.count_observations()


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
        lines.append("Who runs a group is not in the log: appoint its admins again, or restore a dump.")
    if counts.observations:
        lines.append(
            f"{counts.observations} members observed in groups. Strangers and who never came are known again "
            "from the next rosters."
        )
    if counts.units_unnamed:
        lines.append(f"{counts.units_unnamed} units have their code for a name: load the tree again.")
    return lines
