"""Coverage: what each event says of the record of a member, a group or a unit, and of who invited whom.

The rules are in `core/coverage/domain.py`. Further signs of an active member (attended, answered, clicked)
belong into `_credited`, once events tell of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from services.analytics.core.calendar import day_of
from services.analytics.core.coverage.domain import (
    MAX_CREDITS,
    Deltas,
    Record,
    Value,
    group_deltas,
    member_deltas,
    newest,
    profile,
    put,
    renumbered,
    seating,
    target_of,
    unit_deltas,
)
from services.analytics.core.coverage.store import PROJECTION, Changes, CoverageStore
from services.analytics.core.places import Place
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupAdminsChanged,
    GroupArchived,
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberObserved,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupSnapshot,
    GroupUpdated,
    ObservationSnapshot,
    PlacementSnapshot,
    UnitSucceeded,
    UnitUpserted,
)
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.contracts.notifications import (
    INVITE,
    PROMISED,
    NotificationSent,
    NotificationSnapshot,
)
from services.shared.contracts.vocabulary import Purpose
from services.shared.messaging import UnitOfWork, without_leaps


class Track(NamedTuple):
    """One kind of statement about one kind of subject."""

    name: str
    deltas: Callable[[Record], Deltas]
    merge: Callable[[Any], Any]


MEMBER = Track("m", member_deltas, profile)
SEATS = Track("p", member_deltas, seating)
GROUP = Track("g", group_deltas, profile)
UNIT = Track("u", unit_deltas, profile)


@dataclass(frozen=True, slots=True)
class Says:
    """The meaning of an event type: `states` gives the fields of its subject, from the day of `when` on. A
    `whole` one, a snapshot, states all of them."""

    track: Track
    states: Callable[[Any], Value | None]
    when: Callable[[Envelope[Any]], datetime] = lambda event: event.time
    whole: bool = False


def _day(moment: datetime) -> str:
    return day_of(moment).isoformat()


def _profile(
    event: MemberJoined | MemberUpdated | MemberMerged | MemberUnmerged | MemberSnapshot,
) -> dict[str, Any]:
    """Whether the member is an adult is stated only where it is told."""
    told = {} if event.adult is None else {"adult": event.adult}
    return {"unit": event.unit, "gender": event.gender.value, **told}


def _joined(event: MemberJoined) -> Value:
    return {**_profile(event), "in": True}


def _moved(event: MemberMoved) -> Value:
    return {"unit": event.unit}


def _consented(event: MemberConsentChanged) -> Value | None:
    """A member who agrees to be seen in a group asks for the women's group; other consents say nothing."""
    if event.purpose != Purpose.GROUP:
        return None
    return {"unit": event.unit, "asked": event.state == "given"}


def _left(event: MemberLeft) -> Value:
    return {"unit": event.unit, "in": False}


def _merged(event: MemberMerged) -> Value:
    return {**_profile(event), "in": False}


def _unmerged(event: MemberUnmerged) -> Value:
    return {**_profile(event), "in": event.status == "active"}


def _snapshot(event: MemberSnapshot) -> Value:
    is_in = event.status == "active" and event.merged_into is None
    return {**_profile(event), "in": is_in, "since": _day(event.joined_at)}


def _assigned(event: GroupMemberAssigned | GroupMemberRedrawn) -> Value:
    return {"group": event.group_id, "seat": True, "unit": event.unit}


def _removed(event: GroupMemberRemoved) -> Value:
    return {"group": event.group_id, "seat": False}


def _observed(event: GroupMemberObserved) -> Value:
    return {"group": event.group_id, "in": event.state == "joined"}


def _seen_once(event: ObservationSnapshot) -> Value | None:
    """The event that it stands for, if that was lost; nothing if no roster has shown the member."""
    return {"group": event.group_id, "in": event.state == "joined"} if event.state else None


def _placement(event: PlacementSnapshot) -> Value:
    seats = {seat.group_id: seat.unit for seat in event.seats if seat.group_id}
    seats |= {event.group_id: event.unit} if event.group_id else {}
    return {"seats": seats, "since": _day(event.since)}


def _described(event: GroupCreated | GroupUpdated | GroupFilled) -> Value:
    return {"unit": event.unit, "capacity": event.capacity}


def _invite_changed(event: GroupInviteChanged) -> Value:
    return {"unit": event.unit, "live": event.invite_ready}


def _admins_changed(event: GroupAdminsChanged) -> Value:
    return {"unit": event.unit, "admins": event.admins}


def _group(event: GroupSnapshot) -> Value:
    archived = event.retired == "archived"
    return {
        "unit": event.unit,
        "capacity": event.capacity,
        "live": event.invite_ready,
        "archived": archived,
    }


def _archived(event: GroupArchived) -> Value:
    return {"unit": event.unit, "archived": True}


def _unit(event: UnitUpserted) -> Value:
    return {"target": event.women_target}


def _succeeded(_: UnitSucceeded) -> Value:
    """The figures of the unit stay; from that day on it is no longer among those that are to be covered."""
    return {"retired": True}


def _joined_at(event: Envelope[MemberJoined]) -> datetime:
    return event.data.joined_at


def _observed_at(event: Envelope[GroupMemberObserved | ObservationSnapshot]) -> datetime:
    return event.data.observed_at or event.time


MAPPINGS: Final[Mapping[type[Event], Says]] = {
    MemberJoined: Says(MEMBER, _joined, _joined_at),
    MemberUpdated: Says(MEMBER, _profile),
    MemberMoved: Says(MEMBER, _moved),
    MemberConsentChanged: Says(MEMBER, _consented),
    MemberLeft: Says(MEMBER, _left),
    MemberMerged: Says(MEMBER, _merged),
    MemberUnmerged: Says(MEMBER, _unmerged),
    MemberSnapshot: Says(MEMBER, _snapshot, whole=True),
    GroupMemberAssigned: Says(SEATS, _assigned),
    GroupMemberRemoved: Says(SEATS, _removed),
    GroupMemberRedrawn: Says(SEATS, _assigned),
    GroupMemberObserved: Says(SEATS, _observed, _observed_at),
    ObservationSnapshot: Says(SEATS, _seen_once, _observed_at),
    PlacementSnapshot: Says(SEATS, _placement, whole=True),
    GroupCreated: Says(GROUP, _described),
    GroupUpdated: Says(GROUP, _described),
    GroupFilled: Says(GROUP, _described),
    GroupInviteChanged: Says(GROUP, _invite_changed),
    GroupAdminsChanged: Says(GROUP, _admins_changed),
    GroupArchived: Says(GROUP, _archived),
    GroupSnapshot: Says(GROUP, _group, whole=True),
    UnitUpserted: Says(UNIT, _unit),
    UnitSucceeded: Says(UNIT, _succeeded),
}
SENT: Final = (NotificationSent, NotificationSnapshot)
AnySent: TypeAlias = NotificationSent | NotificationSnapshot


class Batch:
    """The records of a batch, changed in memory; `changes` are what is to be written."""

    def __init__(self, known: Mapping[str, Record]) -> None:
        self._known = known
        self.changes = Changes()

    def record(self, id_: str) -> Record:
        if id_ in self.changes.records:
            return self.changes.records[id_][1]
        return self._known.get(id_) or {"_id": id_}

    def replace(self, after: Record, deltas: Callable[[Record], Deltas]) -> None:
        id_ = after["_id"]
        before = self.record(id_)
        self.changes.records[id_] = (id_ not in self._known, after)
        self.changes.deltas.update(deltas(after))
        if len(before) > 1:
            self.changes.deltas.subtract(deltas(before))

    def state(self, event: Envelope[Any], mapping: Says) -> None:
        """Add the event's statement to its subject."""
        record = self.record(event.subject)
        value = mapping.states(event.data)
        if value is None or record.get("erased"):
            return
        track, day = mapping.track, _day(mapping.when(event))
        points = put(
            record.get(track.name, []), event.sequence, day, value, whole=mapping.whole, merge=track.merge
        )
        if points is not None:
            self.replace({**record, track.name: points}, track.deltas)
            if track is UNIT and "target" in value and target_of(record) != value["target"]:
                self.changes.below[event.subject] = min(day, self.changes.below.get(event.subject, day))
        if isinstance(event.data, MemberJoined | MemberSnapshot):
            self._credit(event.data)

    def _credit(self, member: MemberJoined | MemberSnapshot) -> None:
        """Somebody joined by an invitation, which makes the inviter active; once for each who joined."""
        inviter = member.inviter_id
        record = self.record(member.member_id)
        if inviter is None or inviter == member.member_id or record.get("credited"):
            return
        self.replace({**record, "credited": True}, member_deltas)
        of_inviter = self.record(inviter)
        if not of_inviter.get("erased"):
            credits_ = _credited(of_inviter.get("credits", {}), _day(member.joined_at))
            self.replace({**of_inviter, "credits": credits_}, member_deltas)

    def invite(self, event: Envelope[AnySent]) -> None:
        """A message brought the member the way into a group; the first one counts."""
        record = self.record(event.data.member_id)
        day = _day(event.data.created_at if isinstance(event.data, NotificationSnapshot) else event.time)
        if not record.get("erased") and day < record.get("invited", "9999"):
            self.replace({**record, "invited": day}, member_deltas)

    def erase(self, event: Envelope[MemberErasureRequested]) -> None:
        """Nothing is kept but the fact; who is erased is in the figures of no day."""
        if not self.record(event.subject).get("erased"):
            self.replace({"_id": event.subject, "erased": True}, member_deltas)


class CoverageFold:
    """See `folds.Fold`. Version 1 counted minors as adults; it follows by today's rules until version 2 is
    built."""

    name = PROJECTION
    latest: Final = 2
    events: Final[frozenset[type[Event]]] = frozenset({*MAPPINGS, *SENT, MemberErasureRequested})
    compared: Final = ("facts", "months")

    def __init__(self, store: CoverageStore, version: int = latest) -> None:
        self.version = version
        self._store = store

    def has(self, key: str) -> bool:
        return True

    async def create(self, place: Place) -> None:
        await self._store.create(place)

    async def fold(
        self, events: Sequence[Envelope[Any]], work: UnitOfWork, place: Place, *, settled_later: bool = False
    ) -> None:
        """One query and at most four bulk writes a batch, whatever its size."""
        kind = type(events[0].data)
        if kind in SENT:
            events = [event for event in events if brings_invite(event.data)]
        known = await self._store.records(place, _subjects(events), work.session)
        batch = Batch(known)
        mapping = MAPPINGS.get(kind)
        if mapping is not None:
            name = mapping.track.name
            events = without_leaps(events, lambda id_: newest(known.get(id_, {}).get(name, [])), work)
        for event in events:
            if mapping is not None:
                batch.state(event, mapping)
            elif kind is MemberErasureRequested:
                batch.erase(event)
            else:
                batch.invite(event)
        if batch.changes.records:
            await self._store.save(place, batch.changes, work.session, mark=not settled_later)

    async def settle(self, place: Place, work: UnitOfWork) -> int:
        return await self._store.settle(place, work.session)

    async def settle_after(self, place: Place, after: str, work: UnitOfWork) -> str | None:
        return await self._store.settle_after(place, after, work.session)

    async def is_settled(self, place: Place) -> bool:
        return await self._store.is_settled(place)

    async def forget(self, ids: Sequence[str], work_session: Any) -> None:
        """Forget the sequences of these subjects; what is counted of them stays."""

        def renumber(record: Record) -> Record:
            tracks = {name for name in ("m", "p", "g", "u") if name in record}
            return {name: renumbered(value) if name in tracks else value for name, value in record.items()}

        await self._store.forget(ids, work_session, renumber)

    async def heard(self, ids: Sequence[str], session: Any) -> Mapping[str, int]:
        """The highest sequence known of each subject; of a member, in either topic."""
        records = await self._store.live_records(ids, session)
        known = {id_: max(newest(record.get(name, [])) for name in "mpgu") for id_, record in records.items()}
        return {id_: number for id_, number in known.items() if number}


def _subjects(events: Sequence[Envelope[Any]]) -> set[str]:
    ids: set[str] = set()
    for event in events:
        if isinstance(event.data, SENT):
            ids.add(event.data.member_id)
        else:
            ids.add(event.subject)
            if inviter := getattr(event.data, "inviter_id", None):
                ids.add(inviter)
    return ids


def brings_invite(event: AnySent) -> bool:
    """Welcomes and invites bring the way into a group, but not a welcome that went without a link."""
    brings = event.purpose == Purpose.WELCOME or event.template in (INVITE, PROMISED)
    return brings and not event.without and getattr(event, "state", "sent") == "sent"


def _credited(credits_: Mapping[str, int], day: str) -> dict[str, int]:
    """The days on which somebody joined by the invitation, with one more."""
    after = {**credits_, day: credits_.get(day, 0) + 1}
    while len(after) > MAX_CREDITS:
        first, second = sorted(after)[:2]
        after[second] += after.pop(first)
    return after
