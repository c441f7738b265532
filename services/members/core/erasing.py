"""The rules of an erasure: from the request, over the acknowledgements of the others, to its end. Pure.

    requested -> (sealed ->) erased

With the request the member is out of use everywhere. When all others have acknowledged, the rule decides:
`at_once` ends it, since nothing was kept; `dpdp_rule_8_3` (Digital Personal Data Protection Rules 2025: what
was processed is kept for a year, then erased) waits for the anniversary of the request, on which the seal is
destroyed. Each event is the next of the member's own, so the sequence goes on from the member's last version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import MemberErased, MemberErasureRequested

SERVICES: Final = ("groups", "notifications", "analytics")
"""The services that acknowledge."""
SLOWEST: Final = timedelta(days=1)
"""The pause between two requests doubles until it is that long, and is never given up."""


class Rule(StrEnum):
    AT_ONCE = "at_once"
    DPDP_8_3 = "dpdp_rule_8_3"


class ErasureState(StrEnum):
    REQUESTED = "requested"
    SEALED = "sealed"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Counts, by kind, of what a service has destroyed, and when that was heard."""

    at: datetime
    destroyed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Removal:
    """A chat group that the person must be removed from by its admin; `done_by` is a token's subject."""

    group_id: str
    done_at: datetime | None = None
    done_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One erasure; for as long as it exists, which is for good, the member does not come back.

    `status` is the member's before it, `sequence` that of the member's last event. `groups`, `notifications`
    and `analytics` are their acknowledgements. `next_at` is when the request is published again, or the seal
    destroyed; None when nothing is left to be done.
    """

    id: str
    member_id: str
    unit: str
    status: str
    rule: Rule
    state: ErasureState = ErasureState.REQUESTED
    requested_by: str
    requested_at: datetime
    attempt: int = 1
    sequence: int
    destroyed: Mapping[str, int] = field(default_factory=dict)
    groups: Acknowledgement | None = None
    notifications: Acknowledgement | None = None
    analytics: Acknowledgement | None = None
    removals: tuple[Removal, ...] = ()
    next_at: datetime | None = None
    sealed_until: datetime | None = None
    erased_at: datetime | None = None

    @property
    def complete(self) -> bool:
        """Whether all others have acknowledged."""
        return all(getattr(self, service) is not None for service in SERVICES)

    @property
    def needs_number(self) -> bool:
        """Whether somebody still has to find the person in a chat group, or may have to."""
        return self.groups is None or any(removal.done_at is None for removal in self.removals)

    @property
    def needs_seal(self) -> bool:
        return self.rule is Rule.DPDP_8_3 and self.state is not ErasureState.ERASED


def request(erasure: Erasure, again: timedelta) -> Step[Erasure]:
    """The erasure with its first request; it is published again after `again`, unless all acknowledge."""
    return _published(replace(erasure, next_at=erasure.requested_at + pause(1, again)))


def ask_again(erasure: Erasure, again: timedelta, now: datetime) -> Step[Erasure]:
    """Publish the request once more, if anybody has still to acknowledge it. It is asked for as long as it
    takes: a service may be away for weeks."""
    if erasure.state is not ErasureState.REQUESTED:
        return Step(replace(erasure, next_at=None))
    attempt = erasure.attempt + 1
    return _published(replace(erasure, attempt=attempt, next_at=now + pause(attempt, again)))


def pause(attempt: int, again: timedelta) -> timedelta:
    """The time from the request `attempt` to the next one: `again` after the first, doubled after each."""
    doubled = again.total_seconds() * 2.0 ** min(attempt - 1, 64)
    return max(again, timedelta(seconds=min(doubled, SLOWEST.total_seconds())))


def acknowledge(
    erasure: Erasure, service: str, destroyed: Mapping[str, int], groups: tuple[str, ...], now: datetime
) -> Step[Erasure]:
    """The erasure after `service` has answered; the last answer ends it, or begins the time of its seal.
    Answering again changes nothing, but for groups that are named only then."""
    known = {removal.group_id for removal in erasure.removals}
    fresh = tuple(Removal(group_id) for group_id in groups if group_id not in known)
    if getattr(erasure, service) is not None and not fresh:
        return Step(erasure)
    answer: dict[str, Any] = (
        {} if getattr(erasure, service) else {service: Acknowledgement(now, dict(destroyed))}
    )
    heard = replace(erasure, removals=erasure.removals + fresh, **answer)
    if heard.state is not ErasureState.REQUESTED or not heard.complete:
        return Step(heard)
    if heard.rule is Rule.AT_ONCE:
        return end(heard, now)
    until = anniversary(heard.requested_at)
    return Step(replace(heard, state=ErasureState.SEALED, sealed_until=until, next_at=until))


def end(erasure: Erasure, now: datetime) -> Step[Erasure]:
    """Nothing is kept any more; ending it again changes nothing."""
    if erasure.state is ErasureState.ERASED:
        return Step(erasure)
    ended = replace(
        erasure,
        state=ErasureState.ERASED,
        next_at=None,
        erased_at=now,
        sequence=erasure.sequence + 1,
    )
    event = MemberErased(member_id=ended.member_id, unit=ended.unit, erasure_id=ended.id)
    return Step(ended, (Numbered(event, ended.sequence),))


def removed(erasure: Erasure, group_id: str, by: str, now: datetime) -> Erasure:
    """The erasure once an admin has removed the person from the chat group; again, nothing changes."""
    removals = [
        replace(each, done_at=now, done_by=by) if each.group_id == group_id and each.done_at is None else each
        for each in erasure.removals
    ]
    return replace(erasure, removals=tuple(removals))


def anniversary(at: datetime) -> datetime:
    """The same day a year later; of 29 February, which the year after lacks, 1 March, so that a whole year
    has passed."""
    try:
        return at.replace(year=at.year + 1)
    except ValueError:
        return at.replace(year=at.year + 1, month=3, day=1)


def _published(erasure: Erasure) -> Step[Erasure]:
    after = replace(erasure, sequence=erasure.sequence + 1)
    event = MemberErasureRequested(
        member_id=after.member_id,
        unit=after.unit,
        erasure_id=after.id,
        status=after.status,
        attempt=after.attempt,
    )
    return Step(after, (Numbered(event, after.sequence),))
