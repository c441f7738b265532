"""Successions: a unit that was merged, split or moved is retired, and other units stand for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def parts_of(unit: str, successors: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The live units that this one has become in the end, in the order of their succession; of a live one
    itself. `successors` are those of each retired unit."""
    seen: set[str] = set()
    parts: dict[str, None] = {}
    left = [unit]
    while left:
        one = left.pop(0)
        if one in seen:
            continue
        seen.add(one)
        if one in successors:
            left = [*successors[one], *left]
        else:
            parts[one] = None
    return tuple(parts)


def standing_for(unit: str, successors: Mapping[str, Sequence[str]]) -> str | None:
    """The one unit that stands for this one now: itself while it is live; None after a split, and for one
    that was given up."""
    if unit not in successors:
        return unit
    parts = parts_of(unit, successors)
    return parts[0] if len(parts) == 1 else None
