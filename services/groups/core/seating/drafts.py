"""Drafts: what a member is to have after a request, by the policy and the facts. Pure.

A draft says which seats are wanted, kept and given up; which group gives one is decided in `domain.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from services.groups.core.domain import UNKNOWN, Facts, Placement, Seat
from services.groups.core.policy import PLACE, Fact, Policy, Rule, Want, is_decidable
from services.groups.core.seating.group_seats import Pair

Parts = Mapping[str, Sequence[str]]
"""The live units that each retired one has become in the end; units that are not in it are live."""
NOTHING: Final[Mapping[str, Any]] = {}
ALL_LIVE: Final[Parts] = {}
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
        seats=by_rule(before),
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
        seats=by_rule(before),
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


def by_rule(placement: Placement | None) -> dict[str, Seat]:
    return {seat.rule: seat for seat in placement.held} if placement is not None else {}
