"""What this service has decided, from its own topic: units, groups and placements as their events leave them.

States facts and stages nothing. The event that completes an answer to a member's event also marks that one as done,
so that it is not answered again; `Placement.member_sequence` says the same, but older events do not carry it.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.groups.domain import Placement, PlacementState
from services.groups.store import Store
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    PlacementSnapshot,
    UnitUpserted,
)
from services.shared.contracts.vocabulary import GroupKind
from services.shared.database import Document
from services.shared.errors import PermanentError
from services.shared.messaging import Inbox, UnitOfWork
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime

AboutGroup = GroupCreated | GroupUpdated | GroupFilled | GroupInviteChanged | GroupSnapshot
AboutPlacement = GroupMemberAssigned | GroupMemberWaiting | GroupMemberRemoved | PlacementSnapshot


class Restoring:
    def __init__(self, store: Store, inbox: Inbox, clock: Clock) -> None:
        self._store = store
        self._inbox = inbox
        self._clock = clock

    async def units(self, events: Sequence[Envelope[UnitUpserted]], work: UnitOfWork) -> None:
        known = await self._store.units([e.subject for e in events], work.session)
        fresh = [e for e in events if e.sequence > known.get(e.subject, {}).get("version", 0)]
        await self._store.save_units([_unit(e, known.get(e.subject)) for e in fresh], work.session)

    async def groups(self, events: Sequence[Envelope[AboutGroup]], work: UnitOfWork) -> None:
        known = await self._store.group_rows([e.subject for e in events], work.session)
        fresh = [e for e in events if e.sequence > known.get(e.subject, {}).get("version", 0)]
        await self._store.save_group_rows([_group(e, known.get(e.subject)) for e in fresh], work.session)

    async def placements(self, events: Sequence[Envelope[AboutPlacement]], work: UnitOfWork) -> None:
        known = await self._store.placements([e.subject for e in events], work.session)
        fresh = [e for e in events if (p := known.get(e.subject)) is None or e.sequence > p.sequence]
        since = {e.subject: e.data.since if isinstance(e.data, PlacementSnapshot) else e.time for e in fresh}
        rows = [_placement(e, known.get(e.subject)) for e in fresh]
        await self._store.save_placements(rows, work.session, since)
        await self._answered([e.causation_id for e in events if e.causation_id and _completes(e.data)], work)

    async def _answered(self, causes: Sequence[str], work: UnitOfWork) -> None:
        ids = list(dict.fromkeys(causes))
        seen = await self._inbox.seen(ids, work.session)
        await self._inbox.add([i for i in ids if i not in seen], self._clock.now(), work.session)


def plan(runtime: Runtime) -> Plan:
    store = Store(runtime.database, runtime.clock)
    handlers = Restoring(store, Inbox(runtime.database), runtime.clock)
    about_groups = (GroupCreated, GroupUpdated, GroupFilled, GroupInviteChanged, GroupSnapshot)
    about_placements = (GroupMemberAssigned, GroupMemberWaiting, GroupMemberRemoved, PlacementSnapshot)
    return Plan(
        summary=lambda: _summary(store),
        restoring={
            UnitUpserted: handlers.units,
            **dict.fromkeys(about_groups, handlers.groups),
            **dict.fromkeys(about_placements, handlers.placements),
        },
        finish=store.settle_groups,
    )


async def _summary(store: Store) -> Sequence[str]:
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


def _unit(event: Envelope[UnitUpserted], known: Document | None) -> Document:
    """Older events have no names: the code stands in for them until the tree is loaded again."""
    unit = event.data
    name = unit.names or (known["name"] if known else {"en": unit.unit, "hi": unit.unit})
    return {
        "_id": unit.unit,
        "level": unit.level,
        "parent": unit.parent,
        "name": name,
        "women_target": unit.women_target,
        "version": event.sequence,
    }


def _group(event: Envelope[AboutGroup], known: Document | None) -> Document:
    """Raises: `PermanentError` when an event that does not describe the group comes first: its beginning is missing.

    `link_lost` marks a group whose link is not in the log and has to be set again; one that a dump had may be withdrawn.
    """
    said = event.data
    row: Document = {**(known or {"_id": said.group_id, "taken": 0, "state": "open", "invite_link": None})}
    row |= {"unit": said.unit, "version": event.sequence, "updated_at": event.time}
    row.setdefault("created_at", event.time)
    if isinstance(said, GroupInviteChanged | GroupSnapshot):
        row.pop("link_lost", None)
        row["invite_link"] = None
        if said.invite_ready:
            row["link_lost"] = True
    if not isinstance(said, GroupInviteChanged):
        row |= {"kind": said.kind, "ordinal": said.ordinal, "capacity": said.capacity}
    if "capacity" not in row:
        raise PermanentError("unknown_group")
    return row


def _placement(event: Envelope[AboutPlacement], known: Placement | None) -> Placement:
    said, before = event.data, known.member_sequence if known else 0
    state, group_id, ordinal = _seat(said)
    return Placement(
        member_id=said.member_id,
        member_sequence=max(before, said.member_sequence) if _completes(said) else before,
        unit=said.unit,
        state=state,
        sequence=event.sequence,
        group_id=group_id,
        kind=GroupKind.GENERAL if isinstance(said, GroupMemberWaiting) else said.kind,
        ordinal=ordinal,
    )


def _seat(said: AboutPlacement) -> tuple[PlacementState, str | None, int | None]:
    """State, group and ordinal. Who gave up a seat for another waits, until the next event says where they are."""
    match said:
        case GroupMemberAssigned():
            return PlacementState.ASSIGNED, said.group_id, said.ordinal
        case GroupMemberWaiting():
            return PlacementState(said.reason), None, None
        case GroupMemberRemoved():
            return PlacementState.LEFT if said.reason == "left" else PlacementState.WAITING_UNIT, None, None
        case PlacementSnapshot():
            return PlacementState(said.state), said.group_id, said.ordinal


def _completes(said: AboutPlacement) -> bool:
    """A seat given up for another is half of an answer: without the other half, the move is still to be made."""
    return not (isinstance(said, GroupMemberRemoved) and said.reason == "moved")
