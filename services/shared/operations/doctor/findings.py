"""What a check says: well, wrong with the cure, or why nothing could be said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class Verdict(StrEnum):
    WELL = "well"
    WRONG = "wrong"
    BLIND = "blind"
    """It was to be looked at, and could not be."""
    SKIPPED = "skipped"
    """Nobody said where to look."""


@dataclass(frozen=True, slots=True)
class Finding:
    area: str
    verdict: Verdict
    said: str
    cure: str = ""
    """What to do: of all that is not well."""


class Fault(NamedTuple):
    said: str
    cure: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """Stands for facts that are not there: because nobody said where to look, or may not, or because what should answer does not."""

    why: str
    cure: str
    verdict: Verdict = Verdict.BLIND


Seen: TypeAlias = T | Unseen


def examine(
    area: str, facts: Seen[T], check: Callable[[T], Iterable[Fault]], well: str | Callable[[T], str]
) -> list[Finding]:
    """The faults that `check` finds; one finding that says `well` when there are none."""
    if isinstance(facts, Unseen):
        return [unseen(area, facts)]
    faults = [Finding(area, Verdict.WRONG, *fault) for fault in check(facts)]
    return faults or [Finding(area, Verdict.WELL, well if isinstance(well, str) else well(facts))]


def unseen(area: str, facts: Unseen) -> Finding:
    return Finding(area, facts.verdict, f"not checked: {facts.why}", facts.cure)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 something is wrong; 2 something could not be looked at, or nothing was; else 0."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.WRONG in verdicts:
        return 1
    return 0 if Verdict.WELL in verdicts and Verdict.BLIND not in verdicts else 2
