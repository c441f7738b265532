"""Measured values of a benchmark, and the goals they are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value. `name` says what was measured and, for a baseline, where its code is; `unit` is for
    print."""

    name: str
    value: float
    unit: str = "/s"

    def __str__(self) -> str:
        digits = 0 if self.value >= 100 else 1 if self.value >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit} ({self.name})"


@dataclass(frozen=True)
class Ratio:
    """Ours against a named baseline of the same run. `goal` is the least ratio, or the greatest with
    `at_most`.

    Without a goal (None) the ratio is for information. `floor` is the least value that a change must keep
    while the goal itself is not reliably reached; it defaults to the goal.
    """

    what: str
    ours: Figure
    baseline: Figure
    goal: float | None
    at_most: bool = False
    floor: float | None = None

    @property
    def value(self) -> float:
        return self.ours.value / self.baseline.value

    @property
    def met(self) -> bool:
        if self.goal is None:
            return True
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def held(self) -> bool:
        """Whether the value is at or above its floor."""
        return self.met if self.floor is None else self.value >= self.floor

    @property
    def row(self) -> tuple[str, ...]:
        """Cells: what, ours, baseline, ratio, goal, verdict."""
        sign = "<=" if self.at_most else ">="
        goal = "" if self.goal is None else f"{sign} {self.goal:g}"
        verdict = "" if self.goal is None else "met" if self.met else "MISSED"
        return self.what, str(self.ours), str(self.baseline), f"{self.value:.2f}", goal, verdict

    @property
    def reached(self) -> float:
        """The share of the goal that was reached, 1 at most."""
        if self.goal is None or self.met:
            return 1.0
        return self.goal / self.value if self.at_most else self.value / self.goal


def least_disturbed(runs: Sequence[Sequence[Ratio]], good: Callable[[Ratio], bool]) -> Sequence[Ratio]:
    """The run of a bench that the machine disturbed least, whole: its ratios belong together."""
    return max(runs, key=lambda run: (sum(map(good, run)), sum(ratio.reached for ratio in run)))


def best(figures: Sequence[Figure]) -> Figure:
    """The fastest of several runs of one contender."""
    return max(figures, key=lambda f: f.value)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile. Raises: `IndexError` when `values` is empty."""
    return sorted(values)[max(0, -(-len(values) * percent // 100).__int__() - 1)]
