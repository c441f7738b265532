"""What this service does when a member joins, moves or leaves, and when it hears again how a member is."""

from __future__ import annotations

from collections.abc import Sequence

from services.groups.domain import Change
from services.groups.placing import Asked, Placing
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberSnapshot
from services.shared.messaging import Origin, UnitOfWork


class Handlers:
    def __init__(self, placing: Placing) -> None:
        self._placing = placing

    async def arrive(self, events: Sequence[Envelope[MemberJoined | MemberMoved]], work: UnitOfWork) -> None:
        """`member.joined` and `member.moved` alike: a seat in the unit, wherever the member was before."""
        await self._placing.apply(
            [Asked(Change(e.subject, e.sequence, e.data.unit), Origin.of(e)) for e in events], work
        )

    async def leave(self, events: Sequence[Envelope[MemberLeft]], work: UnitOfWork) -> None:
        await self._placing.apply(
            [Asked(Change(e.subject, e.sequence, e.data.unit, leaves=True), Origin.of(e)) for e in events],
            work,
        )

    async def settle(self, events: Sequence[Envelope[MemberSnapshot]], work: UnitOfWork) -> None:
        """A seat for whom we have lost, or a seat freed; nothing for those whose placement is of that version or newer."""
        await self._placing.apply(
            [
                Asked(
                    Change(e.subject, e.sequence, e.data.unit, leaves=e.data.status == "left"), Origin.of(e)
                )
                for e in events
            ],
            work,
        )
