"""The rules of roles: a term is the time for which a member holds a role in a unit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.members.core.domain import Member, Role
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import MemberRolesChanged, RoleHeld


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """In effect from `since` and before `until`; None: without an end. A member has one term for each role
    and unit."""

    id: str
    member_id: str
    role: str
    unit: str
    since: datetime
    until: datetime | None = None

    def in_effect(self, now: datetime) -> bool:
        return self.since <= now and not self.ended(now)

    def ended(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now

    def changes_at(self, now: datetime) -> datetime | None:
        """When it next begins or ends."""
        if now < self.since:
            return self.since
        return None if self.ended(now) else self.until


class RoleChange(StrEnum):
    GIVEN = "given"
    CHANGED = "changed"
    """Another beginning or end."""
    BEGAN = "began"
    """A term that was given for later."""
    TAKEN = "taken"
    REDRAWN = "redrawn"
    """Its unit became another one; the record has the new unit, the one before it the old one."""
    ENDED = "ended"
    """By the time that was set, or because the member left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRecord:
    """One change of a term, kept for good. `actor` is the subject of the token; None: it came to pass."""

    member_id: str
    role: str
    unit: str
    change: str
    since: datetime
    until: datetime | None = None
    actor: str | None = None
    at: datetime


def record_of(term: Term, change: RoleChange, now: datetime, actor: str | None = None) -> RoleRecord:
    return RoleRecord(
        member_id=term.member_id,
        role=term.role,
        unit=term.unit,
        change=change.value,
        since=term.since,
        until=term.until,
        actor=actor,
        at=now,
    )


def with_roles(
    member: Member, terms: Iterable[Term], now: datetime, touched: Sequence[Term] = ()
) -> Step[Member]:
    """The member with the roles of the `terms` in effect. `touched` are terms as they were before and after a
    change: one of them in effect is published even if the roles are the same."""
    held = sorted((t for t in terms if t.in_effect(now)), key=lambda term: (term.role, term.unit))
    roles = tuple([Role(term.role, term.unit) for term in held])
    if roles == member.roles and not any(term.in_effect(now) for term in touched):
        return Step(member)
    new = replace(member, roles=roles, version=member.version + 1, updated_at=now)
    event = MemberRolesChanged(
        member_id=member.id,
        unit=member.unit,
        roles=tuple([RoleHeld(role=t.role, unit=t.unit, since=t.since, until=t.until) for t in held]),
    )
    return Step(new, (Numbered(event, new.version),))
