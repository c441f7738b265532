"""Findings: the result of a check is well, wrong (with the cure), or not checked (with the reason)."""

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
    """The address is known, but the check was not possible."""
    SKIPPED = "skipped"
    """No address was given."""


@dataclass(frozen=True, slots=True)
class Finding:
    area: str
    verdict: Verdict
    said: str
    cure: str = ""
    """The instruction for the operator; empty when all is well."""


class Fault(NamedTuple):
    said: str
    cure: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """Stands in for missing facts: no address was given, access was refused, or the other side did not
    answer."""

    why: str
    cure: str
    verdict: Verdict = Verdict.BLIND


Seen: TypeAlias = T | Unseen


def examine(
    area: str, facts: Seen[T], check: Callable[[T], Iterable[Fault]], well: str | Callable[[T], str]
) -> list[Finding]:
    """A finding for each fault of `check`, or one finding with the text `well` if there are none."""
    if isinstance(facts, Unseen):
        return [unseen(area, facts)]
    faults = [Finding(area, Verdict.WRONG, *fault) for fault in check(facts)]
    return faults or [Finding(area, Verdict.WELL, well if isinstance(well, str) else well(facts))]


def unseen(area: str, facts: Unseen) -> Finding:
    return Finding(area, facts.verdict, f"not checked: {facts.why}", facts.cure)


def exit_code(findings: Sequence[Finding]) -> int:
    """The exit code: 1 if something is wrong; 2 if something could not be checked, or nothing was; else 0."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.WRONG in verdicts:
        return 1
    return 0 if Verdict.WELL in verdicts and Verdict.BLIND not in verdicts else 2
