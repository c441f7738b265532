"""How a member and their roles follow when units become others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from services.members.core.changing import move
from services.members.core.domain import Member, Status
from services.members.core.terms import Term, with_roles
from services.shared.contracts.base import Step
from services.shared.contracts.members import REDRAWN


class Following(NamedTuple):
    """A member after their units have become others: the step, the terms that changed, and those that are one
    with another now."""

    step: Step[Member]
    changed: Sequence[Term]
    merged: Sequence[Term]


class Refusal(StrEnum):
    """Why somebody is not mapped to a unit."""

    UNKNOWN = "unknown"
    """There is no such member among the caller's, or they are no member any more."""
    NOT_A_PART = "not_a_part"
    """The member's unit was not split, or the unit is none of its parts."""


def follow(member: Member, terms: Sequence[Term], units: Mapping[str, str], now: datetime) -> Following:
    """`units` says what has become of each unit; `terms` are all of the member's."""
    step = Step(member)
    if member.status == Status.ACTIVE and member.unit in units:
        step = move(member, units[member.unit], now, REDRAWN)
    after, changed, merged = redrawn_terms(terms, units)
    if changed or merged:
        roles = with_roles(step.state, after, now)
        step = Step(roles.state, (*step.events, *roles.events))
    return Following(step, changed, merged)


def redrawn_terms(
    terms: Sequence[Term], units: Mapping[str, str]
) -> tuple[list[Term], list[Term], list[Term]]:
    """All terms after it, those of them that changed, and those that are gone: two terms of one role that
    come to one unit are one, from the earlier beginning to the later end."""
    after: dict[tuple[str, str], Term] = {}
    changed: dict[str, Term] = {}
    gone: list[Term] = []
    for term in sorted(terms, key=lambda each: each.unit in units):  # whoever stays comes first
        now = replace(term, unit=units.get(term.unit, term.unit))
        kept = after.get((now.role, now.unit))
        if kept is not None:
            gone.append(term)
            ends = None if kept.until is None or now.until is None else max(kept.until, now.until)
            now = replace(kept, since=min(kept.since, now.since), until=ends)
        after[now.role, now.unit] = now
        if now not in (term, kept):
            changed[now.id] = now
    return list(after.values()), list(changed.values()), gone
