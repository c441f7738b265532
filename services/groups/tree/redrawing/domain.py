"""The rules of redrawing: what a wanted tree changes, and what becomes of the units and groups. Pure.

A unit code is never changed and never used again. A unit that moves, is merged or split is retired, and those
that it became are its successors. Its groups keep their id, their seats and their link: they are of the
successor, or after a split of the first one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from services.groups.core.domain import Group, Unit, group_name, group_updated
from services.groups.tree.csv_rows import Findings, Succession
from services.groups.tree.domain import upserted
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.groups import MAX_SUCCESSORS, UnitSucceeded
from services.shared.contracts.vocabulary import in_subtree, parent_of
from services.shared.errors import FieldError


class Kind(StrEnum):
    ADDED = "added"
    FORMED = "formed"
    """A new unit that succeeds others."""
    RENAMED = "renamed"
    CHANGED = "changed"
    """Another target or constituency, under the same name."""
    MOVED = "moved"
    MERGED = "merged"
    SPLIT = "split"
    VANISHED = "vanished"


RETIRING = frozenset({Kind.MOVED, Kind.MERGED, Kind.SPLIT, Kind.VANISHED})
"""Kinds of units that are live no more."""


class Refusal(StrEnum):
    """Why a change cannot be applied."""

    HOLDS_MEMBERS = "holds_members"
    """The unit vanishes with members and without a successor."""


@dataclass(frozen=True, slots=True)
class Held:
    """The holdings of a unit itself: placed members, groups, and roles in effect."""

    members: int = 0
    groups: int = 0
    officers: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a comparison. `wanted` is the unit to write, None for one that is retired."""

    kind: str
    code: str
    wanted: Unit | None = None
    predecessors: tuple[str, ...] = ()
    successors: tuple[str, ...] = ()
    held: Held = Held()
    refused: str | None = None


class Wanted(NamedTuple):
    """A unit of the wanted tree, and those that it succeeds."""

    unit: Unit
    predecessors: tuple[str, ...] = ()


def check_successions(
    codes: Mapping[int, str],
    successions: Mapping[int, Succession],
    root: str | None,
    live: Collection[str],
) -> Findings:
    """Check what the rows of a file say of each other. `live` are those of the codes named that are live in
    the tree."""
    errors = Findings()
    lines = {code: line for line, code in codes.items()}
    gone = {codes[line]: named.successors for line, named in successions.items() if named.successors}
    for line, code in codes.items():
        at = f"/rows/{line}"
        if (parent := parent_of(code)) in gone and code not in gone:
            errors.add([FieldError(f"{at}/code", "its parent goes")])
        elif parent not in lines and parent is not None and (root is None or in_subtree(parent, root)):
            errors.add([FieldError(f"{at}/code", "its parent is not in this file, which is a whole tree")])
        if code in gone:
            errors.add(_check_gone(f"{at}/successor", code, gone, lines, live))
        elif named := successions.get(line):
            errors.add(_check_new(f"{at}/predecessor", code, named.predecessors, gone, lines, live, root))
    counts: dict[str, int] = {}
    for new in wanted_predecessors(codes, successions).values():
        for code in new:
            counts[code] = counts.get(code, 0) + 1
    for code, count in counts.items():
        if count > MAX_SUCCESSORS:
            pointer = f"/rows/{lines[code]}/successor" if code in lines else "/rows"
            errors.add([FieldError(pointer, f"a unit is split into at most {MAX_SUCCESSORS}")])
    return errors


def _check_gone(
    at: str,
    code: str,
    gone: Mapping[str, Sequence[str]],
    lines: Mapping[str, int],
    live: Collection[str],
) -> list[FieldError]:
    errors = []
    if code not in live:
        errors.append(FieldError(at.replace("successor", "code"), "goes, but is no live unit"))
    for successor in gone[code]:
        if successor == code:
            errors.append(FieldError(at, "is the unit itself"))
        elif successor in gone:
            errors.append(FieldError(at, "goes too: a successor stays"))
        elif successor not in lines:
            errors.append(FieldError(at, "is not in this file"))
        elif successor in live:
            errors.append(FieldError(at, "is there already: whatever succeeds a unit has a new code"))
    return errors


def _check_new(
    at: str,
    code: str,
    predecessors: Sequence[str],
    gone: Mapping[str, Sequence[str]],
    lines: Mapping[str, int],
    live: Collection[str],
    root: str | None,
) -> list[FieldError]:
    errors = []
    if code in live:
        errors.append(FieldError(at, "is of a unit that is there already: whatever succeeds has a new code"))
    for predecessor in predecessors:
        if predecessor == code:
            errors.append(FieldError(at, "is the unit itself"))
        elif root is not None and not in_subtree(predecessor, root):
            errors.append(FieldError(at, "is outside the tree that is compared"))
        elif predecessor not in live:
            errors.append(FieldError(at, "is no live unit"))
        elif predecessor in lines and predecessor not in gone:
            errors.append(FieldError(at, "is in this file: a unit that is succeeded does not stay"))
    return errors


def wanted_predecessors(
    codes: Mapping[int, str], successions: Mapping[int, Succession]
) -> dict[str, tuple[str, ...]]:
    """The units that each new one succeeds, whichever of the two rows says so; in the order of the file."""
    found: dict[str, dict[str, None]] = {}
    for line, named in successions.items():
        for predecessor in named.predecessors:
            found.setdefault(codes[line], {})[predecessor] = None
        for successor in named.successors:
            found.setdefault(successor, {})[codes[line]] = None
    return {code: tuple(predecessors) for code, predecessors in found.items()}


def change_of(before: Unit | None, wanted: Wanted) -> Change | None:
    """The change that brings a wanted unit about; None when it is as wanted."""
    unit = wanted.unit
    if before is None:
        kind = Kind.FORMED if wanted.predecessors else Kind.ADDED
        return Change(kind.value, unit.code, unit, predecessors=wanted.predecessors)
    step = upserted(before, unit)
    if not step.events:
        return None
    kind = Kind.RENAMED if step.state.name != before.name else Kind.CHANGED
    return Change(kind.value, unit.code, unit)


def retirement(code: str, successors: Sequence[Wanted], held: Held) -> Change:
    """The change of a live unit that the wanted tree does not have."""
    names = tuple([successor.unit.code for successor in successors])
    if not names:
        refused = Refusal.HOLDS_MEMBERS.value if held.members else None
        return Change(Kind.VANISHED.value, code, held=held, refused=refused)
    merged = len(names) == 1 and len(successors[0].predecessors) > 1
    kind = Kind.SPLIT if len(names) > 1 else Kind.MERGED if merged else Kind.MOVED
    return Change(kind.value, code, successors=names, held=held)


def retired(unit: Unit, successors: Sequence[str], redrawing_id: str, now: datetime) -> Step[Unit]:
    """The unit is live no more."""
    after = replace(
        unit,
        successors=tuple(successors),
        retired_at=now,
        redrawing_id=redrawing_id,
        version=unit.version + 1,
    )
    event = UnitSucceeded(unit=unit.code, successors=after.successors or (), redrawing_id=redrawing_id)
    return Step(after, (Numbered(event, after.version),))


def handed_over(
    groups: Iterable[Group],
    heir: Unit,
    names: Mapping[str, Mapping[str, str]],
    taken: Mapping[str, int],
    now: datetime,
) -> list[Step[Group]]:
    """The groups as those of `heir`, with the next ordinals of each kind after the highest that is `taken`. A
    name that nobody changed follows. `names` are those of their units so far."""
    last = dict(taken)
    steps = []
    for group in sorted(groups, key=lambda each: (each.kind, each.unit, each.ordinal)):
        ordinal = last[group.kind] = last.get(group.kind, 0) + 1
        old = group_name(names[group.unit], group.ordinal, group.kind)
        new = group_name(heir.name, ordinal, group.kind)
        name = {word: new[word] if text == old.get(word) else text for word, text in group.name.items()}
        after = replace(
            group, unit=heir.code, ordinal=ordinal, name=name, version=group.version + 1, updated_at=now
        )
        steps.append(Step(after, (Numbered(group_updated(after), after.version),)))
    return steps
