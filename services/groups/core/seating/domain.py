"""Seating: which seats each member gets, by pure rules.

A unit has one or more groups of a kind, numbered by ordinal from 1. A member takes a seat in the open group
with the lowest ordinal; when all are full, the next ordinal is created, unless the policy caps their number:
then the member waits, and freed seats go to those who wait, in the order in which they first wanted one.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from services.groups.core.domain import GENERAL, UNKNOWN, Group, Placement, PlacementState, Seat
from services.groups.core.policy import Policy, Want, is_decidable
from services.groups.core.seating.drafts import ALL_LIVE, Draft, Parts, by_rule, is_given_in, live, wanted
from services.groups.core.seating.group_seats import GroupSeats, Numbering, Pair, SeatCounts
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.groups import (
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
)

Place = tuple[datetime, str, str]
"""A place in a waiting list: since when, the member, the rule."""
NO_PLACES: Final[Mapping[Pair, Place]] = {}


class Waiter(NamedTuple):
    """A member in a waiting list, by which rule."""

    placement: Placement
    rule: str


class Seating(NamedTuple):
    """The answer to a list of requests: a step for each, in their order, then one for each other member who
    got a seat that became free; and the groups that are new or have changed."""

    steps: Sequence[Step[Placement]]
    created: Sequence[Group]
    changed: Sequence[GroupSeats]


def demand_of(drafts: Iterable[Draft]) -> Counter[Pair]:
    """How many seats of each pair are to be taken."""
    return Counter([pair for each in drafts for pair in each.taken])


def short_of_seats(demand: Mapping[Pair, int], groups: Iterable[GroupSeats]) -> list[Pair]:
    """Pairs that may need a new group."""
    free: Counter[Pair] = Counter()
    for group in groups:
        if not group.retired:
            free[group.unit, group.kind] += max(0, group.capacity - group.taken)
    return [pair for pair, members in demand.items() if members > free[pair]]


def contested(demand: Iterable[Pair], left: Iterable[Seat], policy: Policy) -> set[Pair]:
    """Pairs of which the policy caps the groups, and seats are taken or given up: they may have a waiting
    list, and whoever is first in it may take a seat."""
    if not policy.capped:
        return set()
    pairs = (*demand, *((seat.unit, seat.kind) for seat in left))
    return {pair for pair in pairs if pair[1] in policy.capped}


def seat_members(
    drafts: Sequence[Draft],
    groups: Iterable[GroupSeats],
    numbering: Mapping[Pair, Numbering],
    unit_names: Mapping[str, Mapping[str, str]],
    policy: Policy,
    *,
    now: datetime,
    waited: Collection[Pair] = (),
    waiters: Iterable[Waiter] = (),
    last: Mapping[Pair, Place] = NO_PLACES,
) -> Seating:
    """Decide on the drafts in their order; each is of a different member.

    `groups` must hold every open group of the pairs that are `taken` or `contested`, and every group that is
    `left`; `numbering` what there is of the pairs that are `contested` or `short_of_seats`; `waited` the
    contested pairs, `waiters` those who wait longest for them, and `last` the place up to which that is all
    who wait, of the pairs with more. A unit that is not in `unit_names` is unknown: its members wait.
    """
    everybody = {each.member_id: each for each in drafts}
    seats = SeatCounts(groups, numbering, policy, now)
    hall = _Hall(seats, unit_names, policy, now, everybody)
    for waiter in waiters:
        hall.join_queue(waiter)
    if waited:
        for each in drafts:
            hall.keep_places(each, waited)
    for each in drafts:
        hall.settle(each)
    hall.promote(last)
    return Seating([_step(each, now) for each in everybody.values()], *seats.groups())


def still_waits(waiter: Waiter, policy: Policy, parts: Parts = ALL_LIVE) -> bool:
    """Whether the policy, too, wants the seat that the member waits for; if not, the seat is for the next."""
    placement = waiter.placement
    facts, is_out = placement.facts or UNKNOWN, placement.is_out
    seat = next((seat for seat in placement.held if seat.rule == waiter.rule), None)
    rule = policy.by_id.get(waiter.rule)
    if seat is None or rule is None:
        return False
    if facts.until is not None or not is_decidable(rule, facts, is_out=is_out):
        return True
    want = wanted(policy, rule, placement.unit, facts, parts, is_out=is_out)
    return want is not None and want.kind == seat.kind and is_given_in(seat, want.unit, parts)


def _step(each: Draft, now: datetime) -> Step[Placement]:
    """The draft as a placement, with its own events numbered."""
    before = each.before
    sequence = before.sequence if before is not None else 0
    own = each.own_events
    events: list[Numbered] = []
    for event, is_own in each.events:
        if is_own:
            sequence, own = sequence + 1, own - 1
            made = event[0](**event[1], member_sequence=each.answers, completes=own == 0)
            events.append(Numbered(made, sequence))
        else:
            events.append(event)
    general = each.seats.get(GENERAL)
    others: tuple[Seat, ...] = ()
    if len(each.seats) > (general is not None):
        others = tuple([seat for rule, seat in each.seats.items() if rule != GENERAL])
    if general is not None:
        state, since = general.state, general.since
        group_id, ordinal, unit = general.group_id, general.ordinal, general.unit
        meant = general.meant
    else:
        state = PlacementState.LEFT if each.is_out else PlacementState.REMOVED
        group_id, ordinal, unit, meant = None, None, each.unit, None
        since = before.since if before is not None and before.state is state else now
        if before is not None and before.unit != each.unit:
            since = now
    after = Placement(
        member_id=each.member_id,
        member_sequence=each.member_sequence,
        sequence=sequence,
        unit=each.unit,
        group_id=group_id,
        kind=GENERAL,
        ordinal=ordinal,
        state=state,
        since=since,
        group_unit=unit if unit != each.unit else None,
        meant=meant,
        policy=each.policy,
        facts=each.facts,
        seats=others or None,
    )
    return Step(after, tuple(events))


class _Hall:
    """Seats members in the groups of `SeatCounts` and keeps the waiting lists."""

    def __init__(
        self,
        seats: SeatCounts,
        unit_names: Mapping[str, Mapping[str, str]],
        policy: Policy,
        now: datetime,
        everybody: dict[str, Draft],
    ) -> None:
        self._seats = seats
        self._unit_names = unit_names
        self._policy = policy
        self._now = now
        self._everybody = everybody
        self._in_batch = frozenset(everybody)
        self._queues: dict[Pair, list[Place]] = {}
        """The places of those who wait, in order; of members outside the batch too."""
        self._waiting: dict[str, Placement] = {}

    def join_queue(self, waiter: Waiter) -> None:
        """Note somebody who waits already, unless their own request is among the drafts."""
        placement = waiter.placement
        seat = next((s for s in placement.held if s.rule == waiter.rule), None)
        if placement.member_id in self._in_batch or seat is None or seat.group_id is not None:
            return
        self._waiting[placement.member_id] = placement
        self._queue(seat, placement.member_id)

    def keep_places(self, each: Draft, pairs: Collection[Pair]) -> None:
        """Note the places that the member has and keeps in the waiting lists of these pairs."""
        for rule, seat in each.seats.items():
            waits = seat.state is PlacementState.WAITING_SEAT and (seat.unit, seat.kind) in pairs
            if waits and not (rule in each.wants and each.gives_up(seat)):
                self._queue(seat, each.member_id)

    def settle(self, each: Draft) -> None:
        """Give up the seats that are not wanted, and take those that are."""
        if each.vacates is not None:
            self._relocate(each)
            return
        for seat in each.kept:
            self._follow(each, seat)
        if each.follows:
            return
        for seat in [seat for rule, seat in each.seats.items() if rule in each.wants]:
            if each.gives_up(seat):
                self._release(each, seat, each.wants[seat.rule])
        for rule, want in each.wants.items():
            if want is not None:
                self._take(each, rule, want)

    def promote(self, last: Mapping[Pair, Place]) -> None:
        """Give the seats that are free to those who wait for them, the first first. After the place that is
        `last`, there are more of them than are known here."""
        of_groups: list[tuple[Any, bool]] = []
        for pair, queue in self._queues.items():
            unit, kind = pair
            name = self._unit_names.get(unit)
            while name and queue and queue[0] <= last.get(pair, queue[0]) and self._seats.has_room(*pair):
                _, member_id, rule = queue.pop(0)
                self._seat(self._draft_of(member_id), rule, Want(kind, unit), name, of_groups)
        if of_groups:
            # The steps are not in the order of promotion: after all of them, a group is created before it is
            # filled.
            next(reversed(self._everybody.values())).events += of_groups

    def _relocate(self, each: Draft) -> None:
        """Exchange a seat for one in another group of its unit and kind. Without room there, it stays."""
        for seat in each.left:
            name = self._unit_names.get(seat.unit)
            if name is not None and self._seats.has_room(seat.unit, seat.kind):
                want = Want(seat.kind, seat.unit)
                self._release(each, seat, want)
                self._seat(each, seat.rule, want, name)

    def _follow(self, each: Draft, seat: Seat) -> None:
        """Keep the seat, in whichever unit its group is now."""
        group, want = self._seats.group(seat.group_id or ""), each.wants.get(seat.rule)
        meant = want.unit if want is not None else live(seat.given_in, each.parts)
        meant_now = meant if meant != group.unit else None
        after = replace(seat, unit=group.unit, ordinal=group.ordinal, meant=meant_now)
        each.seats[seat.rule] = after
        moved = seat.rule == GENERAL and each.before is not None and each.before.unit != each.unit
        if after == seat and not moved:
            return
        fields = {"group_id": group.id, "kind": group.kind, "ordinal": group.ordinal, "meant": meant_now}
        event, told = GroupMemberRedrawn, {**fields, "member_unit": each.unit}
        each.events.append(_own(event, each, seat.rule, group.unit, **told))

    def _release(self, each: Draft, seat: Seat, want: Want | None) -> None:
        del each.seats[seat.rule]
        if seat.group_id is None:
            self._unqueue(seat, each.member_id)
            return
        left = self._seats.release(seat.group_id)
        each.events.append(
            _own(
                GroupMemberRemoved,
                each,
                seat.rule,
                left.unit,
                group_id=left.id,
                kind=left.kind,
                ordinal=left.ordinal,
                reason="left" if want is None else "moved",
                unplaced=want is None and not each.is_out,
            )
        )

    def _take(self, each: Draft, rule: str, want: Want) -> None:
        held = each.seats.get(rule)
        if held is not None and held.group_id is not None:
            return
        name = self._unit_names.get(want.unit)
        if name is None:
            self._wait(each, rule, want, held, PlacementState.WAITING_UNIT)
        elif want.kind in self._policy.capped and not self._is_next(each.member_id, rule, want, held):
            self._wait(each, rule, want, held, PlacementState.WAITING_SEAT)
        else:
            self._seat(each, rule, want, name)

    def _is_next(self, member_id: str, rule: str, want: Want, held: Seat | None) -> bool:
        """Whether there is room and nobody before this member waits for it."""
        pair = (want.unit, want.kind)
        queue = self._queues.get(pair)
        place = (held.since if held is not None else self._now, member_id, rule)
        return (not queue or place <= queue[0]) and self._seats.has_room(*pair)

    def _wait(self, each: Draft, rule: str, want: Want, held: Seat | None, state: PlacementState) -> None:
        told = held is not None and (held.state, held.unit) == (state, want.unit)
        told = told and self._was_told(each, rule)
        seat = Seat(rule, want.kind, want.unit, state, held.since if held is not None else self._now)
        each.seats[rule] = seat
        if state is PlacementState.WAITING_SEAT:
            self._queue(seat, each.member_id)
        if not told:
            kind, reason = want.kind, state.value
            each.events.append(_own(GroupMemberWaiting, each, rule, want.unit, kind=kind, reason=reason))

    def _was_told(self, each: Draft, rule: str) -> bool:
        if rule != GENERAL:
            return True
        return each.before is not None and each.before.sequence > 0

    def _seat(
        self,
        each: Draft,
        rule: str,
        want: Want,
        unit_name: Mapping[str, str],
        of_groups: list[tuple[Any, bool]] | None = None,
    ) -> None:
        """Take a seat. Events of groups go to `of_groups` if it is given."""
        others = each.events if of_groups is None else of_groups
        if (held := each.seats.get(rule)) is not None:
            self._unqueue(held, each.member_id)
        group, created, filled = self._seats.take(want.unit, want.kind, unit_name)
        each.seats[rule] = Seat(
            rule, want.kind, want.unit, PlacementState.ASSIGNED, self._now, group.id, group.ordinal
        )
        if created is not None:
            others.append((created, False))
        each.events.append(
            _own(
                GroupMemberAssigned,
                each,
                rule,
                want.unit,
                group_id=group.id,
                kind=group.kind,
                ordinal=group.ordinal,
                invite_ready=group.invite_ready,
            )
        )
        if filled is not None:
            others.append((filled, False))

    def _draft_of(self, member_id: str) -> Draft:
        if member_id not in self._everybody:
            placement = self._waiting[member_id]
            self._everybody[member_id] = Draft(
                before=placement,
                member_id=member_id,
                member_sequence=placement.member_sequence,
                answers=placement.member_sequence,
                unit=placement.unit,
                is_out=placement.is_out,
                facts=placement.facts,
                seats=by_rule(placement),
                policy=placement.policy,
            )
        return self._everybody[member_id]

    def _queue(self, seat: Seat, member_id: str) -> None:
        place = (seat.since, member_id, seat.rule)
        queue = self._queues.setdefault((seat.unit, seat.kind), [])
        if place not in queue:
            insort(queue, place)

    def _unqueue(self, seat: Seat, member_id: str) -> None:
        queue = self._queues.get((seat.unit, seat.kind), [])
        if (place := (seat.since, member_id, seat.rule)) in queue:
            queue.remove(place)


def _own(event: type[Any], each: Draft, rule: str, unit: str, **fields: Any) -> tuple[Any, bool]:
    """An event of the member, which is made once it is known how many there are."""
    fields |= {"member_id": each.member_id, "unit": unit, "rule": rule}
    if unit != each.unit:
        fields["member_unit"] = each.unit
    return (event, fields), True
