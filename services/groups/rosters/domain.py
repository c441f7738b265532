"""Reconciling a roster with the seats of its group. Pure."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.groups.core.domain import Group, Placement
from services.groups.core.observations.domain import (
    Changed,
    Observation,
    new_observation,
    observation_id,
    observed,
    scheduled,
    seated,
    seen,
)
from services.shared.contracts.base import Numbered

ENOUGH: Final = 5
"""Members of a roster from whom one can tell whose roster it is."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """`sequences` are those of the members' last events, of whom there are any."""

    changes: Sequence[Changed]
    events: Sequence[Numbered]
    sequences: Mapping[str, int]


def is_of_another_group(here: int, elsewhere: int) -> bool:
    """Whether most members of a roster have their seat in another group of the kind than in this one."""
    return here + elsewhere >= ENOUGH and elsewhere > here


def reconcile(
    group: Group,
    placements: Iterable[Placement],
    known: Mapping[str, Observation],
    present: Many[str],
    taken_at: datetime,
    *,
    complete: bool,
    patience: timedelta,
    now: datetime,
) -> Reconciled:
    """Compare members with a roster: those in `present` are on it; if it is complete, the others are not in
    the group."""
    changes: list[Changed] = []
    events: list[Numbered] = []
    sequences: dict[str, int] = {}
    for placement in placements:
        is_present = placement.member_id in present
        if not is_present and not complete:
            continue
        before = known.get(observation_id(group.id, placement.member_id))
        start = before or new_observation(group, placement, now)
        start = seated(start, group, placement.by_group)
        after = scheduled(seen(start, taken_at, present=is_present), patience)
        if before is None and not is_present and not after.seat:
            continue
        if (event := observed(start, after)) is not None:
            sequence = placement.sequence + 1
            events.append(Numbered(event, sequence))
            sequences[placement.member_id] = sequence
            after = replace(after, sequence=sequence)
        if after != before:
            changes.append(Changed(before, replace(after, changed_at=now)))
    return Reconciled(changes, events, sequences)
