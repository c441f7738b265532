"""A line of the books: one figure as each of several counts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Figure = int | float | None


@dataclass(frozen=True)
class Line:
    """One figure as each service reports it; it balances when all agree."""

    label: str
    figures: Mapping[str, Figure]

    @property
    def balances(self) -> bool:
        return len(set(self.figures.values())) == 1
