"""Changes of a group by hand: its invite link, its capacity, its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypedDict

from services.groups.core.domain import Group, GroupState, group_name, group_updated
from services.shared.contracts.base import Event, Numbered, Step
from services.shared.contracts.groups import GroupFilled, GroupInviteChanged


class GroupPatch(TypedDict, total=False):
    """A merge patch: what is absent stays. `invite_link` None withdraws the link; a name that is None follows
    the unit's again."""

    invite_link: str | None
    capacity: int
    name: Mapping[str, str | None]


class CapacityError(Exception):
    """Fewer seats are wanted than are taken."""


def patched(
    group: Group, patch: GroupPatch, unit_name: Mapping[str, str] | None, now: datetime
) -> Step[Group]:
    """`unit_name` is needed for a name that is None; without it, that name stays.

    Raises: `CapacityError`.
    """
    default = group_name(unit_name, group.ordinal, group.kind) if unit_name else group.name
    name = {language: text or default[language] for language, text in patch.get("name", {}).items()}
    after = replace(group, name={**group.name, **name}, capacity=patch.get("capacity", group.capacity))
    if after.capacity < after.taken:
        raise CapacityError
    if "invite_link" in patch:
        after = replace(after, invite_link=patch["invite_link"], link_lost=None)
    if not _events(group, after):
        return Step(group)
    return _changed(group, replace(after, updated_at=now))


def closing(group: Group, now: datetime, capacity: int | None = None) -> Step[Group]:
    """The group while it is emptied, or with a `capacity` until it has no more members than that: nobody gets
    a seat in it."""
    return _changed(group, replace(group, retired="closing", shrinks_to=capacity, updated_at=now))


def reopened(group: Group, now: datetime) -> Step[Group]:
    """The group that has been split, with its new capacity."""
    capacity = group.shrinks_to or group.capacity
    after = replace(group, retired=None, shrinks_to=None, capacity=capacity, updated_at=now)
    return _changed(group, after)


def _changed(before: Group, after: Group) -> Step[Group]:
    events = _events(before, after)
    after = replace(after, version=before.version + len(events))
    return Step(after, tuple([Numbered(event, n) for n, event in enumerate(events, before.version + 1)]))


def _events(before: Group, after: Group) -> list[Event]:
    shape = {name: getattr(after, name) for name in ("unit", "kind", "ordinal", "capacity")}
    events: list[Event] = []
    if _described(after) != _described(before):
        events.append(group_updated(after))
    if after.invite_link != before.invite_link:
        events.append(GroupInviteChanged(group_id=after.id, unit=after.unit, invite_ready=after.invite_ready))
    if after.retired is None and after.state is GroupState.FULL and before.state is not GroupState.FULL:
        events.append(GroupFilled(group_id=after.id, **shape))
    return events


def _described(group: Group) -> tuple[object, ...]:
    return group.name, group.capacity, group.retired, group.shrinks_to
