"""What members heard of themselves after a dump was taken, from their own topic; nothing personal is in it.

Who is in the dump gets the attributes and the sequence that they had reached, so that their next change is not taken for
a stale one. Whoever joined later is lost: there is no name and no number to be had. The others were told of them and are
now told that they left, which frees their seats; they can join again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.members.store import Loss, Recovery
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import (
    MemberJoined,
    MemberLeft,
    MemberMoved,
    MemberSnapshot,
    MemberUpdated,
)
from services.shared.database import Document
from services.shared.messaging import Origin, UnitOfWork
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime

Told = MemberJoined | MemberUpdated | MemberMoved | MemberLeft | MemberSnapshot
KINDS: Final = (MemberJoined, MemberUpdated, MemberMoved, MemberLeft, MemberSnapshot)


class Restoring:
    def __init__(self, runtime: Runtime) -> None:
        self._recovery = Recovery(runtime.database)
        self._outbox = runtime.outbox

    async def members(self, events: Sequence[Envelope[Told]], work: UnitOfWork) -> None:
        subjects = [event.subject for event in events]
        known = await self._recovery.versions(subjects, work.session)
        lost = await self._recovery.losses(subjects, work.session)
        fresh = [e for e in events if e.subject in known and e.sequence > known[e.subject]]
        await self._recovery.change({e.subject: _changes(e) for e in fresh}, work.session)
        await self._recovery.lose_contacts([e.subject for e in fresh if _changed_contact(e)], work.session)
        strange = [e for e in events if e.subject not in known and e.sequence > lost.get(e.subject, 0)]
        await self._recovery.lose(
            [Loss(e.subject, e.data.unit, e.sequence, left=_left(e.data)) for e in strange], work.session
        )

    async def take_leave(self) -> None:
        """Tell of those who are lost that they left. May be repeated."""

        async def body(work: UnitOfWork) -> int:
            losses = await self._recovery.to_be_told(work.session)
            for loss in losses:
                event = MemberLeft(member_id=loss.member_id, unit=loss.unit)
                work.stage(event, loss.sequence + 1, origin)
            await self._recovery.told([loss.member_id for loss in losses], work.session)
            return len(losses)

        origin = Origin.here()
        while await self._outbox.transact(body):
            pass

    async def summary(self) -> Sequence[str]:
        members, lost, contacts = await self._recovery.count()
        return [
            f"{members} members",
            f"{lost} who joined after the dump are lost (db.lost): the others will hear that they left.",
            f"{contacts} have changed their name or contact since (db.members, contact_lost): ask them again.",
        ]


def plan(runtime: Runtime) -> Plan:
    restoring = Restoring(runtime)
    return Plan(
        summary=restoring.summary,
        restoring=dict.fromkeys(KINDS, restoring.members),
        finish=restoring.take_leave,
        from_dump=True,
    )


def _changes(event: Envelope[Told]) -> Document:
    """The fields of a member after the event."""
    said, changes = event.data, {"version": event.sequence, "updated_at": event.time, "unit": event.data.unit}
    if isinstance(said, MemberJoined | MemberUpdated | MemberSnapshot):
        changes |= {"gender": said.gender, "language": said.language, "platforms": list(said.platforms)}
    if _left(said):
        changes["status"] = "left"
    return changes


def _left(said: Told) -> bool:
    return isinstance(said, MemberLeft) or (isinstance(said, MemberSnapshot) and said.status == "left")


def _changed_contact(event: Envelope[Told]) -> bool:
    return isinstance(event.data, MemberUpdated) and event.data.contact_changed
