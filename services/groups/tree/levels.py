"""The level of a unit, and which levels cannot be changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.shared.contracts.vocabulary import depth_of


def level_of(code: str, levels: Sequence[str]) -> str | None:
    """The level of a unit with this code; None when the tree is not so deep."""
    depth = depth_of(code)
    return levels[depth - 1] if depth <= len(levels) else None


def levels_in_the_way(levels: Sequence[str], used: Mapping[int, str]) -> list[int]:
    """The depths whose units would be of another level than they are. `used` has the level of the units at
    each depth that has any."""
    return [depth for depth, level in sorted(used.items()) if levels[depth - 1 : depth] != [level]]
