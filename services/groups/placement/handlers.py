"""Events of members that change their placement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.groups.placement.domain import Change
from services.groups.placement.service import ChangeRequest, PlacementService
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupsErasureAcknowledged
from services.shared.contracts.members import (
    REDRAWN,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.messaging import DeadLetters, Origin, Subscriptions, UnitOfWork, forget_letters


class Handlers:
    def __init__(self, service: PlacementService, letters: DeadLetters) -> None:
        self._service = service
        self._letters = letters

    async def arrive(self, events: Sequence[Envelope[MemberJoined | MemberMoved]], work: UnitOfWork) -> None:
        """`member.joined` and `member.moved` alike: a seat in the unit, wherever the member was before; none
        for somebody without a number of their own. Whoever was redrawn keeps the seat that they have."""
        await self._apply(events, work, lambda event: not event.data.own_number)

    async def number(self, events: Sequence[Envelope[MemberUpdated]], work: UnitOfWork) -> None:
        """A seat for who has got a number of their own, none for who has lost it. Other changes of a member
        leave the seat as it is."""
        seated = await self._service.seated([event.subject for event in events], work)
        due = [event for event in events if event.data.own_number != seated.get(event.subject)]
        await self._apply(due, work, lambda event: not event.data.own_number)

    async def leave(self, events: Sequence[Envelope[MemberLeft | MemberMerged]], work: UnitOfWork) -> None:
        """`member.merged` too: the member who stands for both has a seat of their own."""
        await self._apply(events, work, lambda _: True)

    async def part(self, events: Sequence[Envelope[MemberUnmerged]], work: UnitOfWork) -> None:
        """A seat again for a member who was merged, unless they had left before or have no number."""
        await self._apply(events, work, _is_out)

    async def reconcile(self, events: Sequence[Envelope[MemberSnapshot]], work: UnitOfWork) -> None:
        """Place members whom a lost event or database has left out; the placements of all others stay."""
        await self._apply(events, work, _is_out)

    async def erase(self, requests: Sequence[Envelope[MemberErasureRequested]], work: UnitOfWork) -> None:
        """Free the seat as for leaving, and say in which group it was. The placement stays, as the member's
        id and unit: it makes late events stale."""
        held = await self._service.groups_of([request.subject for request in requests], work)
        await self._apply(requests, work, lambda _: True)
        destroyed = await forget_letters(self._letters, requests, work)
        for request in requests:
            groups = held.get(request.subject, ())
            counts = {"seats": len(groups), **destroyed[request.subject]}
            if request.id not in work.refused:
                data = request.data
                answer = GroupsErasureAcknowledged(
                    erasure_id=data.erasure_id,
                    member_id=data.member_id,
                    attempt=data.attempt,
                    destroyed=counts,
                    group_ids=groups,
                )
                work.stage(answer, data.attempt, Origin.of(request))

    async def _apply(
        self, events: Sequence[Envelope[Any]], work: UnitOfWork, leaves: Callable[[Envelope[Any]], bool]
    ) -> None:
        requests = [
            ChangeRequest(
                Change(e.subject, e.sequence, e.data.unit, leaves(e), _is_redrawn(e.data)), Origin.of(e)
            )
            for e in events
        ]
        await self._service.apply(requests, work)


def _is_redrawn(event: Event) -> bool:
    return isinstance(event, MemberMoved) and event.cause == REDRAWN


def _is_out(event: Envelope[MemberUnmerged | MemberSnapshot]) -> bool:
    return event.data.status == "left" or not event.data.own_number


def subscriptions(service: PlacementService, letters: DeadLetters) -> Subscriptions:
    handlers = Handlers(service, letters)
    return {
        MemberJoined: handlers.arrive,
        MemberMoved: handlers.arrive,
        MemberUpdated: handlers.number,
        MemberLeft: handlers.leave,
        MemberMerged: handlers.leave,
        MemberUnmerged: handlers.part,
        MemberSnapshot: handlers.reconcile,
        MemberErasureRequested: handlers.erase,
    }


def unit_of(event: Envelope[Any]) -> str:
    """The affinity of an event: two placements conflict on the open group of their unit."""
    unit: str = event.data.unit
    return unit
