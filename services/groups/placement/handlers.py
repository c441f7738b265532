"""Events of members that change their placement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.groups.core.domain import RoleIn
from services.groups.core.policy import role_facts
from services.groups.core.seating.drafts import Change
from services.groups.core.seating.service import ChangeRequest
from services.groups.placement.service import PlacementService
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupsErasureAcknowledged
from services.shared.contracts.members import (
    REDRAWN,
    MemberConsentChanged,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberRolesChanged,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.contracts.vocabulary import Gender, Purpose
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
        """A seat for who has got a number of their own, none for who has lost it, and the seats that depend
        on the gender. Other changes of a member leave the seats as they are."""
        await self._apply(events, work, lambda event: not event.data.own_number)

    async def consent(self, events: Sequence[Envelope[MemberConsentChanged]], work: UnitOfWork) -> None:
        """Seats that depend on the consent to be in chat groups; no other consent matters here."""
        due = [event for event in events if event.data.purpose == Purpose.GROUP]
        await self._learn(due, work)

    async def roles(self, events: Sequence[Envelope[MemberRolesChanged]], work: UnitOfWork) -> None:
        """Seats that depend on a role."""
        await self._learn(events, work)

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
        ids = dict.fromkeys(request.subject for request in requests)
        others = await self._service.erased({id_: held.get(id_, ()) for id_ in ids}, work)
        destroyed = await forget_letters(self._letters, requests, work)
        for request in requests:
            groups = held.get(request.subject, ())
            more = others.get(request.subject, {})
            counts = {"seats": len(groups), **more, **destroyed[request.subject]}
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
        requests = []
        for e in events:
            redrawn = _is_redrawn(e.data)
            change = Change(e.subject, e.sequence, e.data.unit, leaves(e), stated(e.data), redrawn=redrawn)
            requests.append(ChangeRequest(change, Origin.of(e)))
        await self._service.apply(requests, work)

    async def _learn(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        """Events that state a fact, and neither unit nor status."""
        requests = [
            ChangeRequest(
                Change(e.subject, e.sequence, e.data.unit, states=stated(e.data), places=False), Origin.of(e)
            )
            for e in events
        ]
        if requests:
            await self._service.apply(requests, work)


def stated(event: Event) -> dict[str, Any]:
    """The fields of `Facts` that the event states. Whoever joins or comes back holds no role before
    `member.roles_changed` says so, and of an erased member nothing is kept."""
    states: dict[str, Any] = {}
    if isinstance(event, MemberJoined | MemberMerged | MemberUnmerged | MemberSnapshot):
        states = {"gender": _gender(event.gender), "asked": event.group_consent or None, "roles": None}
    match event:
        case MemberSnapshot(roles_held=None) if event.roles:
            del states["roles"]  # an older release does not say where they are held
        case MemberSnapshot():
            states["roles"] = role_facts([RoleIn(held.role, held.unit) for held in event.roles_held or ()])
        case MemberUpdated():
            states = {"gender": _gender(event.gender)}
        case MemberConsentChanged():
            given = event.state == "given" if event.group_consent is None else event.group_consent
            states = {"asked": given or None}
        case MemberRolesChanged():
            states = {"roles": role_facts([RoleIn(held.role, held.unit) for held in event.roles])}
        case MemberErasureRequested():
            states = {"gender": None, "asked": None, "roles": None}
    return states


def _gender(gender: Gender) -> str | None:
    return None if gender is Gender.UNDISCLOSED else gender.value


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
        MemberConsentChanged: handlers.consent,
        MemberRolesChanged: handlers.roles,
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
