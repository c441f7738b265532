"""Seating: which seats each member gets, by pure rules.

A unit has one or more groups of a kind, numbered by ordinal from 1. A member takes a seat in the open group
with the lowest ordinal; when all are full, the next ordinal is created, unless the policy caps their number:
then the member waits, and freed seats go to those who wait, in the order in which they first wanted one.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from services.groups.core.domain import (
    GENERAL,
    UNKNOWN,
    Facts,
    Group,
    GroupState,
    Placement,
    PlacementState,
    Seat,
    group_id_of,
    group_name,
    seat_state,
)
from services.groups.core.policy import PLACE, Fact, Policy, Rule, Want, is_decidable
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.groups import (
    GroupArchived,
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
)

Parts = Mapping[str, Sequence[str]]
"""The live units that each retired one has become in the end; units that are not in it are live."""
Pair = tuple[str, str]
"""(unit, kind): groups of one pair share their members."""
Place = tuple[datetime, str, str]
"""A place in a waiting list: since when, the member, the rule."""
NOTHING: Final[Mapping[str, Any]] = {}
ALL_LIVE: Final[Parts] = {}
NO_PLACES: Final[Mapping[Pair, Place]] = {}
_ALL_BUT_PLACE: Final = frozenset(Fact) - PLACE
_AT: Final = {"gender": "gender_at", "asked": "asked_at", "roles": "roles_at"}
_FACTS: Final = {"gender": Fact.GENDER, "asked": Fact.CONSENT, "roles": Fact.ROLES}


class Change(NamedTuple):
    """The request of a member's event: a place in `unit`, or in none because the member left.

    `states` are the fields of `Facts` that the event states. An event that `places` nobody states facts
    alone. `redrawn`: the unit itself became another one, and whoever has a seat keeps it.
    """

    member_id: str
    sequence: int
    unit: str
    leaves: bool = False
    states: Mapping[str, Any] = NOTHING
    places: bool = True
    redrawn: bool = False


class Review(NamedTuple):
    """The request to decide on a member again, by facts that are known: because the policy or the tree has
    changed, or with `vacates` because that group is to be left for another of the same unit and kind. With
    `follows`, no seat is given or given up: groups of the member have come to other units."""

    member_id: str
    vacates: str | None = None
    follows: bool = False


class GroupSeats(NamedTuple):
    """The seats of a group: all that seating reads of one that exists, and all that it changes in it."""

    id: str
    unit: str
    kind: str
    ordinal: int
    capacity: int
    taken: int = 0
    version: int = 1
    retired: bool = False
    invite_ready: bool = False

    @property
    def state(self) -> GroupState:
        return GroupState.FULL if self.retired else seat_state(self.taken, self.capacity)


class Numbering(NamedTuple):
    """The highest ordinal of a pair, and how many of its groups are not archived."""

    last: int = 0
    live: int = 0


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


@dataclass(slots=True)
class Draft:
    """One member's answer while it is written: the facts after the request, and what the rules that it may
    concern want. `seats` are by rule."""

    before: Placement | None
    member_id: str
    member_sequence: int
    answers: int
    unit: str
    is_out: bool
    facts: Facts | None
    seats: dict[str, Seat]
    policy: int | None
    """The version of the policy that has decided on all seats."""
    wants: Mapping[str, Want | None] = field(default_factory=dict)
    vacates: str | None = None
    redrawn: bool = False
    """Whether seats are kept although their rules give them elsewhere now."""
    follows: bool = False
    parts: Parts = field(default_factory=dict)
    events: list[tuple[Any, bool]] = field(default_factory=list)
    """With whether each is of the member, and so numbered here."""

    @property
    def own_events(self) -> int:
        return len(self.events) if len(self.events) < 2 else sum([is_own for _, is_own in self.events])

    @property
    def taken(self) -> list[Pair]:
        """The pairs in which a seat is to be taken."""
        return [
            (want.unit, want.kind)
            for rule, want in self.wants.items()
            if want is not None and not self.follows and not self._has(rule)
        ]

    @property
    def left(self) -> list[Seat]:
        """The seats that are to be given up."""
        return [
            seat
            for rule, seat in self.seats.items()
            if seat.group_id is not None and rule in self.wants and self.gives_up(seat)
        ]

    @property
    def kept(self) -> list[Seat]:
        """The seats of which the group, its unit or that of the member may be another since the tree was
        redrawn."""
        if not self.redrawn:
            return []
        return [
            seat
            for rule, seat in self.seats.items()
            if seat.group_id is not None and (rule not in self.wants or not self.gives_up(seat))
        ]

    def gives_up(self, seat: Seat) -> bool:
        """Whether the seat, or place in a waiting list, is not what its rule wants."""
        if self.follows:
            return False
        if self.vacates is not None and seat.group_id == self.vacates:
            return True
        want = self.wants[seat.rule]
        if want is None or want.kind != seat.kind:
            return True
        if is_given_in(seat, want.unit, self.parts):
            return False
        return not (self.redrawn and seat.group_id is not None)

    def _has(self, rule: str) -> bool:
        seat = self.seats.get(rule)
        return seat is not None and seat.group_id is not None and not self.gives_up(seat)


def is_newer(change: Change, placement: Placement | None) -> bool:
    """Whether the change may place the member: one that is not newer than the last would undo what that one
    did."""
    return change.places and (placement is None or change.sequence > placement.member_sequence)


def draft(
    request: Change | Review, before: Placement | None, policy: Policy, parts: Parts = ALL_LIVE
) -> Draft | None:
    """The answer to the request as far as the policy says it; None if there is nothing new in it. `parts`
    are those of all retired units that the request and the placement name."""
    if isinstance(request, Review):
        return _review(request, before, policy, parts) if before is not None else None
    newer = is_newer(request, before)
    facts, changed = learn(before.facts if before else None, request.sequence, request.states)
    heard = facts is not None and facts.until is not None and request.sequence >= facts.until
    if before is not None and not newer and facts == before.facts and not heard:
        return None
    at_rest = before.is_out if before else True
    unit = live(request.unit if newer or before is None else before.unit, parts)
    redrawn = before is not None and _is_redrawn(request, before, unit, parts)
    is_out = request.leaves if newer else at_rest
    if before is None or unit != before.unit or is_out != at_rest or (newer and not before.sequence):
        changed |= PLACE
    if redrawn and newer:
        changed |= PLACE
    after = Draft(
        before=before,
        member_id=request.member_id,
        member_sequence=request.sequence if newer else before.member_sequence if before else 0,
        answers=request.sequence,
        unit=unit,
        is_out=is_out,
        facts=facts,
        seats=_by_rule(before),
        policy=before.policy if before else None,
        redrawn=redrawn,
        parts=parts,
    )
    if facts is not None and facts.until is not None:
        if not heard:
            return after  # heard again after a rebuild: the seats answer a later event
        after.facts, changed = replace(facts, until=None), changed | _ALL_BUT_PLACE
    decided = before.policy or 0 if before else policy.version
    rules = policy.affected(changed) if decided == policy.version else policy.every_rule
    after.wants = _wants(after, rules, policy, every=decided != policy.version)
    after.policy = policy.version or None
    return after


def live(unit: str, parts: Parts) -> str:
    """The unit that stands for this one; itself if there is none, as after a split."""
    now = parts.get(unit, ())
    return now[0] if len(now) == 1 else unit


def _is_redrawn(request: Change, before: Placement, unit: str, parts: Parts) -> bool:
    """Whether what is new is that units became others: the member's, or those of the roles."""
    if request.redrawn or (before.unit in parts and unit == live(before.unit, parts)):
        return True
    old, new = before.facts.roles if before.facts else None, request.states.get("roles")
    if not old or not new or request.places or not any(role.unit in parts for role in old):
        return False
    became = {(role.role, now) for role in old for now in (role.unit, *parts.get(role.unit, ()))}
    return all((role.role, role.unit) in became for role in new)


def learn(
    facts: Facts | None, sequence: int, states: Mapping[str, Any]
) -> tuple[Facts | None, frozenset[Fact]]:
    """The facts after an event that states some, and which of them have changed."""
    if not states:
        return facts, frozenset()
    if facts is None and len(states) == len(_AT):
        return Facts(at=sequence, **states), _ALL_BUT_PLACE
    known = facts or UNKNOWN
    if len(states) == len(_AT) and sequence > known.newest:
        after = Facts(at=sequence, until=known.until, **states)
    else:
        news: dict[str, Any] = {
            name: value
            for name, value in states.items()
            if sequence > max(known.at, getattr(known, _AT[name]) or 0)
        }
        if not news:
            return facts, frozenset()
        after = replace(known, **{**news, **{_AT[name]: sequence for name in news}})
    return after, frozenset(
        fact
        for name, fact in _FACTS.items()
        if getattr(after, name) != getattr(known, name) or (name in states and not _is_known(known, name))
    )


def _is_known(facts: Facts, name: str) -> bool:
    return facts.at > 0 or getattr(facts, _AT[name]) is not None


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
    seats = _Seats(groups, numbering, policy, now)
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


def _review(request: Review, before: Placement, policy: Policy, parts: Parts) -> Draft | None:
    waits = before.facts is not None and before.facts.until is not None
    if waits and request.vacates is None and not request.follows:
        return None
    unit = live(before.unit, parts)
    after = Draft(
        before=before,
        member_id=before.member_id,
        member_sequence=before.member_sequence,
        answers=before.member_sequence,
        unit=unit,
        is_out=before.is_out,
        facts=before.facts,
        seats=_by_rule(before),
        policy=before.policy,
        vacates=request.vacates,
        redrawn=request.follows or unit != before.unit,
        follows=request.follows,
        parts=parts,
    )
    if request.vacates is not None:
        # The seat moves as it is; whether it is still wanted is not the question.
        after.wants = {s.rule: Want(s.kind, s.unit) for s in before.held if s.group_id == request.vacates}
    elif request.follows:
        after.wants = {} if waits else _wants(after, policy.every_rule, policy, every=False)
    else:
        after.wants = _wants(after, policy.every_rule, policy, every=True)
        after.policy = policy.version or None
    return after


def _wants(after: Draft, rules: Collection[str], policy: Policy, *, every: bool) -> dict[str, Want | None]:
    """By the rules named, as far as their facts are known, in the policy's order. With `every`, no seat by a
    rule that the policy does not have is wanted."""
    facts, parts = after.facts or UNKNOWN, after.parts
    wants: dict[str, Want | None] = {}
    if every or after.is_out:
        wants |= {rule: None for rule in after.seats if rule not in policy.by_id}
    for rule in policy.rules:
        if rule.id in rules and is_decidable(rule, facts, is_out=after.is_out):
            wants[rule.id] = wanted(policy, rule, after.unit, facts, parts, is_out=after.is_out)
    return wants


def wanted(policy: Policy, rule: Rule, unit: str, facts: Facts, parts: Parts, *, is_out: bool) -> Want | None:
    """As `Policy.wants`, where units are what they have become since the facts were told."""
    if not parts:
        return policy.wants(rule, unit, facts, is_out=is_out)
    if facts.roles:
        roles = [replace(role, unit=live(role.unit, parts)) for role in facts.roles]
        facts = replace(facts, roles=tuple(roles))
    want = policy.wants(rule, live(unit, parts), facts, is_out=is_out)
    return want._replace(unit=live(want.unit, parts)) if want is not None else None


def is_given_in(seat: Seat, unit: str, parts: Parts) -> bool:
    """Whether the seat is the one that a rule gives in the unit, which may have been formed since."""
    return unit == seat.given_in or unit in parts.get(seat.given_in, ())


def is_behind(placement: Placement, policy: Policy) -> bool:
    """Whether an earlier policy has decided on the member: the job that applies this one will do so again."""
    return (placement.policy or 0) < policy.version


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


def _by_rule(placement: Placement | None) -> dict[str, Seat]:
    return {seat.rule: seat for seat in placement.held} if placement is not None else {}


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
    """Seats members in the groups of `_Seats` and keeps the waiting lists."""

    def __init__(
        self,
        seats: _Seats,
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
                seats=_by_rule(placement),
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


@dataclass(slots=True)
class _Tally:
    """The seats of one group while requests are decided."""

    group: Group | GroupSeats
    taken: int
    version: int

    @property
    def full(self) -> bool:
        return bool(self.group.retired) or self.taken >= self.group.capacity


_by_ordinal = attrgetter("group.ordinal")
_counts = attrgetter("group", "taken", "version")


class _Seats:
    """The seats of all groups while requests are decided.

    Counts are kept beside the groups, which stay as they are. Each group that was touched is made anew once,
    at the end: 500 members who join one unit cost one new group, not 500.
    """

    def __init__(
        self, groups: Iterable[GroupSeats], numbering: Mapping[Pair, Numbering], policy: Policy, now: datetime
    ) -> None:
        self._numbering = dict(numbering)
        self._policy = policy
        self._now = now
        self._tallies = {group.id: _Tally(group, group.taken, group.version) for group in groups}
        self._touched: dict[str, _Tally] = {}
        self._open: dict[Pair, list[_Tally]] = {}
        for tally in self._tallies.values():
            if not tally.full:
                self._open.setdefault((tally.group.unit, tally.group.kind), []).append(tally)
        for tallies in self._open.values():
            tallies.sort(key=_by_ordinal)

    def has_room(self, unit: str, kind: str) -> bool:
        """Whether a seat is free, or the policy allows another group."""
        if self._open.get((unit, kind)):
            return True
        cap = self._policy.caps.get(kind)
        if cap is None or cap.groups is None:
            return cap is not None
        return self._numbering.get((unit, kind), Numbering()).live < cap.groups

    def take(
        self, unit: str, kind: str, unit_name: Mapping[str, str]
    ) -> tuple[Group | GroupSeats, Numbered | None, Numbered | None]:
        """Take a seat: the group, and its events that come before and after the member's."""
        created = filled = None
        open_groups = self._open.setdefault((unit, kind), [])
        if not open_groups:
            open_groups.append(self._create(unit, kind, unit_name))
            created = Numbered(described(GroupCreated, open_groups[0].group), 1)
        tally = open_groups[0]
        tally.taken += 1
        if tally.full:
            del open_groups[0]
            tally.version += 1
            filled = Numbered(described(GroupFilled, tally.group), tally.version)
        self._touched[tally.group.id] = tally
        return tally.group, created, filled

    def group(self, group_id: str) -> Group | GroupSeats:
        return self._tallies[group_id].group

    def release(self, group_id: str) -> Group | GroupSeats:
        """Free a seat."""
        tally = self._tallies[group_id]
        was_full = tally.full
        tally.taken = max(0, tally.taken - 1)
        if was_full and not tally.full:
            insort(self._open.setdefault((tally.group.unit, tally.group.kind), []), tally, key=_by_ordinal)
        self._touched[group_id] = tally
        return tally.group

    def groups(self) -> tuple[list[Group], list[GroupSeats]]:
        """The groups that are new, and those that have changed."""
        created: list[Group] = []
        changed: list[GroupSeats] = []
        for group, taken, version in map(_counts, self._touched.values()):
            if isinstance(group, Group):
                created.append(replace(group, taken=taken, version=version))
            else:
                changed.append(group._replace(taken=taken, version=version))
        return created, changed

    def _create(self, unit: str, kind: str, unit_name: Mapping[str, str]) -> _Tally:
        last, live = self._numbering.get((unit, kind), Numbering())
        self._numbering[unit, kind] = Numbering(last + 1, live + 1)
        group = new_group(unit, kind, last + 1, self._policy.caps[kind].capacity, unit_name, self._now)
        tally = self._tallies[group.id] = _Tally(group, group.taken, group.version)
        return tally


def archived(group: Group, now: datetime) -> Step[Group]:
    """The group taken out of use for good, with its link. It must be empty."""
    events: list[Any] = []
    if group.invite_ready:
        events.append(GroupInviteChanged(group_id=group.id, unit=group.unit, invite_ready=False))
    events.append(GroupArchived(group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal))
    after = replace(
        group,
        invite_link=None,
        sealed_link=None,
        link_lost=None,
        retired="archived",
        version=group.version + len(events),
        updated_at=now,
    )
    return Step(after, tuple([Numbered(event, n) for n, event in enumerate(events, group.version + 1)]))


def new_group(
    unit: str, kind: str, ordinal: int, capacity: int, unit_name: Mapping[str, str], now: datetime
) -> Group:
    return Group(
        id=group_id_of(unit, kind, ordinal),
        unit=unit,
        kind=kind,
        ordinal=ordinal,
        capacity=capacity,
        created_at=now,
        updated_at=now,
        name=group_name(unit_name, ordinal, kind),
    )


G = TypeVar("G", GroupCreated, GroupFilled)


def described(event: type[G], group: Group | GroupSeats) -> G:
    return event(
        group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal, capacity=group.capacity
    )
