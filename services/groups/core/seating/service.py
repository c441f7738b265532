"""Seating members inside a transaction: read, let the domain decide, write in bulk, stage the events.

The snapshot that a transaction reads and MongoDB's write conflicts make the last seat safe: of two consumers
that take it at once, one is aborted and sees the other's work when it runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from services.groups.core.domain import Placement, PlacementState, Seat
from services.groups.core.metrics import GroupsMetrics
from services.groups.core.policies import Policies
from services.groups.core.policy import Policy
from services.groups.core.seating.domain import (
    Place,
    Seating,
    Waiter,
    contested,
    demand_of,
    seat_members,
    short_of_seats,
    still_waits,
)
from services.groups.core.seating.drafts import Change, Draft, Parts, Review, draft, is_behind
from services.groups.core.seating.group_seats import Pair
from services.groups.core.seating.store import QUEUE, SeatStore
from services.groups.core.store import CoreStore
from services.shared.clock import Clock
from services.shared.contracts.base import Event, Numbered, Step
from services.shared.contracts.groups import (
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
)
from services.shared.contracts.vocabulary import lineage
from services.shared.database import Session
from services.shared.messaging import Origin, UnitOfWork, is_leap, leap_error
from services.shared.runtime import Successions

_OUTCOMES: Final[Mapping[type[Event], str]] = {
    GroupMemberAssigned: "assigned",
    GroupMemberWaiting: "waiting",
    GroupMemberRemoved: "removed",
    GroupMemberRedrawn: "redrawn",
}
"""Labels of the metric, by the event that tells of the decision."""

Told = Callable[[Sequence[Numbered], UnitOfWork], Awaitable[None]]
"""Told of the events in the transaction that stages them."""


class ChangeRequest(NamedTuple):
    """A change or review with the event or request that it comes from."""

    change: Change | Review
    origin: Origin


class Decided(NamedTuple):
    """A decision, and from which request each of its steps comes."""

    seating: Seating
    origins: Sequence[Origin]
    before: Mapping[str, Placement]


class SeatingService:
    def __init__(
        self,
        core: CoreStore,
        seats: SeatStore,
        policies: Policies,
        metrics: GroupsMetrics,
        clock: Clock,
        told: Told,
        successions: Successions,
    ) -> None:
        self._told = told
        self._successions = successions
        self._core = core
        self._seats = seats
        self._policies = policies
        self._metrics = metrics
        self._clock = clock

    async def apply(
        self, requests: Sequence[ChangeRequest], work: UnitOfWork, policy: Policy | None = None
    ) -> Sequence[Step[Placement]]:
        """Carry out the requests that are not stale, by the policy in force unless another is given; the
        steps taken. Five reads and two bulk writes, however many they are; more only for what a policy
        caps."""
        placements = await self._core.placements([each.change.member_id for each in requests], work.session)
        policy = policy or await self._policies.current()
        admitted = _admitted(requests, placements, work)
        decided = await self.decide(admitted, placements, policy, work.session)
        if decided is None:
            return ()
        seating, now = decided.seating, self._clock.now()
        for at, step in enumerate(seating.steps):
            work.stage_all(step.events, decided.origins[min(at, len(decided.origins) - 1)])
        work.after_commit(partial(self._count, seating))
        # Groups first: there two transactions conflict, and the loser has then written nothing in vain.
        await self._seats.save_groups(seating, now, work.session)
        await self._save(seating.steps, decided.before, work)
        await self._told([each for step in seating.steps for each in step.events], work)
        return seating.steps

    async def decide(
        self,
        requests: Sequence[ChangeRequest],
        placements: Mapping[str, Placement],
        policy: Policy,
        session: Session | None,
    ) -> Decided | None:
        """The answer to the requests, and nothing is written; None if there is nothing to do."""
        drafts: list[Draft] = []
        origins: list[Origin] = []
        parts = await self._parts(requests, placements, session)
        for request in requests:
            answer = draft(request.change, placements.get(request.change.member_id), policy, parts)
            if answer is not None:
                drafts.append(answer)
                origins.append(request.origin)
        if not drafts:
            return None
        demand = demand_of(drafts)
        given_up = [seat for each in drafts if each.seats for seat in each.left]
        waited = contested(demand, given_up, policy)
        waiters, last, before = await self._waiters(waited, placements, policy, session)
        pairs = demand.keys() | waited
        left = {seat.group_id or "" for seat in (*given_up, *(s for each in drafts for s in each.kept))}
        groups = await self._seats.seats(pairs, left, session) if pairs or left else []
        numbering = await self._seats.numbering({*short_of_seats(demand, groups), *waited}, session)
        names = await self._seats.unit_names({unit for unit, _ in pairs}, session) if pairs else {}
        seating = seat_members(
            drafts,
            groups,
            numbering,
            names,
            policy,
            now=self._clock.now(),
            waited=waited,
            waiters=waiters,
            last=last,
        )
        return Decided(seating, origins, before)

    async def _parts(
        self, requests: Sequence[ChangeRequest], placements: Mapping[str, Placement], session: Session | None
    ) -> Parts:
        """The parts of every retired unit that one of the requests is about."""
        named: set[str] = set()
        for change, _ in requests:
            if isinstance(change, Change):
                named |= {*lineage(change.unit), *(role.unit for role in change.states.get("roles") or ())}
            if (placement := placements.get(change.member_id)) is not None:
                named |= units_of(placement)
        return await self._successions.retired(named, session)

    async def promote(self, pairs: Sequence[Pair], work: UnitOfWork, origin: Origin) -> int:
        """Let the first of each waiting list have the seats that are free; how many got one.

        Where an earlier policy has decided on the first, nobody gets one: the job that applies the policy in
        force comes to them in its own order, and publishes what its preview has said.
        """
        policy = await self._policies.newest(work.session)
        queues = await self._seats.queues(pairs, work.session)
        first = {queue[0][1] for queue in queues.values()}
        due = [
            ChangeRequest(Review(placement.member_id), origin)
            for placement in (await self._seats.placements(first, work.session)).values()
            if not is_behind(placement, policy)
        ]
        steps = await self.apply(due, work, policy) if due else ()
        return sum(1 for step in steps if step.events)

    async def _waiters(
        self,
        pairs: set[Pair],
        placements: Mapping[str, Placement],
        policy: Policy,
        session: Session | None,
    ) -> tuple[Sequence[Waiter], Mapping[Pair, Place], Mapping[str, Placement]]:
        """The members who wait longest for these pairs, the last place read of those pairs of which that is
        not all, and their placements with those given."""
        if not pairs:
            return (), {}, placements
        queues = await self._seats.queues(sorted(pairs), session)
        members = {member for queue in queues.values() for _, member, _ in queue}
        placements = {
            **placements,
            **await self._seats.placements(members - placements.keys(), session),
        }
        found = [
            Waiter(placements[member], rule)
            for queue in queues.values()
            for _, member, rule in queue
            if member in placements
        ]
        last = {pair: queue[-1] for pair, queue in queues.items() if len(queue) >= QUEUE}
        behind = [each.placement for each in found if is_behind(each.placement, policy)]
        if behind:
            units = {unit for placement in behind for unit in units_of(placement)}
            parts = await self._successions.retired(units, session)
            found = [w for w in found if not is_behind(w.placement, policy) or still_waits(w, policy, parts)]
        return found, last, placements

    async def _save(
        self, steps: Sequence[Step[Placement]], before: Mapping[str, Placement], work: UnitOfWork
    ) -> None:
        changed = [step.state for step in steps if step.state != before.get(step.state.member_id)]
        await self._core.save_placements(changed, before, work.session)
        waits: dict[str, Sequence[Seat]] = {}
        gone: set[str] = set()
        for step in steps:
            member_id = step.state.member_id
            old = queued(before[member_id]) if member_id in before else ()
            new = queued(step.state)
            if old != new:
                waits[member_id] = new
                gone |= {f"{member_id}/{rule}" for rule in {s.rule for s in old} - {s.rule for s in new}}
        await self._seats.save_waiting(waits, gone, work.session)

    def _count(self, seating: Seating) -> None:
        metrics = self._metrics
        metrics.groups_created.inc(len(seating.created))
        told = Counter([type(event) for step in seating.steps for event, _ in step.events])
        for event, outcome in _OUTCOMES.items():
            metrics.placements.labels(outcome).inc(told[event])


def units_of(placement: Placement) -> set[str]:
    """The units on which it depends what the placement is to be."""
    roles = placement.facts.roles if placement.facts else None
    units = [*lineage(placement.unit), *(seat.given_in for seat in placement.held)]
    return {*units, *(code for role in roles or () for code in lineage(role.unit))}


def queued(placement: Placement) -> tuple[Seat, ...]:
    """The places that are in the collection of waiting lists: who waits for the unit of their general group
    is found by the placement itself."""
    if placement.seats is None and placement.state is not PlacementState.WAITING_SEAT:
        return ()
    unit = placement.state is PlacementState.WAITING_UNIT
    return tuple(seat for seat in placement.held if seat.is_waiting and not (seat.rule == "general" and unit))


def _admitted(
    requests: Sequence[ChangeRequest], placements: Mapping[str, Placement], work: UnitOfWork
) -> list[ChangeRequest]:
    """The requests without events whose sequence leaps: those are refused."""
    admitted = []
    for request in requests:
        change, placement = request.change, placements.get(request.change.member_id)
        if isinstance(change, Change) and is_leap(change.sequence, placement.heard if placement else 0):
            work.refuse(request.origin.causation_id or "", leap_error())
        else:
            admitted.append(request)
    return admitted
