"""The changes that a policy would make, and how far placements differ from it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, NamedTuple

from services.groups.core.domain import UNKNOWN, Group, Placement
from services.groups.core.policy import Cap, Fault, Policy, is_decidable
from services.groups.core.seating.drafts import ALL_LIVE, Parts, is_given_in, wanted
from services.groups.core.seating.group_seats import Pair
from services.shared.contracts.base import Step
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
)

MAX_EXAMPLES: Final = 100
"""How many differences the result of an audit lists."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One change that a policy would make: of a member's seat by one rule, or of a group."""

    kind: str
    unit: str
    member_id: str | None = None
    group_id: str | None = None
    rule: str | None = None
    joins: str | None = None
    leaves: str | None = None
    waits: str | None = None
    opens: bool = False
    fills: bool = False
    closes: bool = False

    @property
    def key(self) -> str:
        """Its place in the list: members first, each once for each rule."""
        return f"m/{self.member_id}/{self.rule}" if self.member_id else f"g/{self.group_id}"


@dataclass(frozen=True, slots=True)
class Preview:
    """A policy compared with all placements. `base_version` is the policy in force then."""

    id: str
    base_version: int
    created_at: datetime
    job_id: str | None = None
    done: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)


class Drift(NamedTuple):
    """One difference between what is and what the policy says."""

    cause: str
    member_id: str | None
    rule: str | None
    group_id: str | None


class Fullest(NamedTuple):
    """In groups of one kind: the most seats taken in one group, and the most groups with members in one
    unit."""

    taken: int = 0
    groups: int = 0


def cap_faults(caps: Sequence[Cap], fullest: Mapping[str, Fullest]) -> list[Fault]:
    """Caps below what is taken already: groups are split or merged first, and nobody is thrown out."""
    found = []
    for at, cap in enumerate(caps):
        taken, groups = fullest.get(cap.kind, Fullest())
        if cap.capacity < taken:
            found.append(Fault(f"/kinds/{at}/capacity", f"is below the {taken} seats taken in a group"))
        if cap.groups is not None and cap.groups < groups:
            found.append(Fault(f"/kinds/{at}/groups", f"is below the {groups} groups in use in a unit"))
    return found


def same_rules(one: Policy, other: Policy) -> bool:
    """Also by the levels of the tree: a level that was added below may change what a policy gives."""
    return replace(one, version=0) == replace(other, version=0)


def differences(steps: Iterable[Step[Placement]]) -> Iterator[Difference]:
    """The changes that the events of these steps tell of, in their order."""
    for step in steps:
        for event, _ in step.events:
            match event:
                case GroupMemberRemoved():
                    shape = event.kind, event.unit, event.member_id
                    yield Difference(*shape, rule=event.rule, leaves=event.group_id)
                case GroupMemberAssigned():
                    shape = event.kind, event.unit, event.member_id
                    yield Difference(*shape, rule=event.rule, joins=event.group_id)
                case GroupMemberWaiting():
                    shape = event.kind, event.unit, event.member_id
                    yield Difference(*shape, rule=event.rule, waits=event.reason)
                case GroupCreated():
                    yield Difference(event.kind, event.unit, group_id=event.group_id, opens=True)
                case GroupFilled():
                    yield Difference(event.kind, event.unit, group_id=event.group_id, fills=True)
                case _:
                    pass


def merged(one: Difference, other: Difference) -> Difference:
    """Two changes of one thing, the later one last, as one."""
    return Difference(
        kind=other.kind,
        unit=other.unit,
        member_id=other.member_id,
        group_id=other.group_id,
        rule=other.rule,
        joins=other.joins or one.joins,
        leaves=one.leaves or other.leaves,
        waits=None if other.joins else other.waits or one.waits,
        opens=one.opens or other.opens,
        fills=one.fills or other.fills,
        closes=one.closes or other.closes,
    )


def counted(difference: Difference) -> Counter[str]:
    """The counts of one change."""
    counts: Counter[str] = Counter()
    if difference.joins and difference.leaves:
        counts["moves"] = 1
    elif difference.joins:
        counts["joins"] = 1
    elif difference.leaves:
        counts["leaves"] = 1
    counts["waits"] = int(difference.waits is not None)
    counts["messages"] = int(difference.joins is not None)
    for word in ("opens", "fills", "closes"):
        counts[word] = int(getattr(difference, word))
    return counts


def drift_of(placement: Placement, policy: Policy, parts: Parts = ALL_LIVE) -> Iterator[Drift]:
    """How one placement differs from the policy, by the facts that are known."""
    facts, is_out = placement.facts or UNKNOWN, placement.is_out
    held = {seat.rule: seat for seat in placement.held}
    if (placement.policy or 0) < policy.version:
        yield Drift("behind", placement.member_id, None, None)
    for rule in policy.rules:
        seat = held.pop(rule.id, None)
        if not is_decidable(rule, facts, is_out=is_out):
            continue
        want = wanted(policy, rule, placement.unit, facts, parts, is_out=is_out)
        if want is None and seat is not None:
            yield Drift("unwanted", placement.member_id, rule.id, seat.group_id)
        elif want is not None and seat is None:
            yield Drift("missing", placement.member_id, rule.id, None)
        elif (
            want is not None
            and seat is not None
            and not (want.kind == seat.kind and is_given_in(seat, want.unit, parts))
        ):
            yield Drift("elsewhere", placement.member_id, rule.id, seat.group_id)
    for rule_id, seat in held.items():
        yield Drift("unwanted", placement.member_id, rule_id, seat.group_id)


def drift_of_group(group: Group, members: int) -> Iterator[Drift]:
    if group.taken != members:
        yield Drift("miscounted", None, None, group.id)
    if members > group.capacity:
        yield Drift("over_capacity", None, None, group.id)


def closable(group: Group, policy: Policy) -> bool:
    """Whether no rule can give a seat in the group, which is empty."""
    return group.taken == 0 and group.retired is None and not policy.uses(group.kind, group.unit)


def pair_of(group: Group) -> Pair:
    return group.unit, group.kind
