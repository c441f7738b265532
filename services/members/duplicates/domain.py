"""Whether two members may be one person, and why. Pure.

The names must answer each other word by word, across scripts, the given names among them: twins share a
surname, a unit and a birth year, and are two people. Then something else must agree: the phone, or the place
and the year of birth. What contradicts (gender, birth year) outweighs everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.shared.contracts.vocabulary import LEVELS, Gender, depth_of, lineage, parent_of
from services.shared.names import sound_key, spelt_alike

ALIKE: Final = 0.8
"""The least likeness of two words that are the same word spelt in two ways."""


class Reason(StrEnum):
    SAME_PHONE = "same_phone"
    """As a member who left had: the number that came back under another spelling."""
    SAME_NAME = "same_name"
    """It sounds the same, in whatever script."""
    SIMILAR_NAME = "similar_name"
    SAME_BIRTH_YEAR = "same_birth_year"
    SAME_UNIT = "same_unit"
    NEAR_UNIT = "near_unit"


@dataclass(frozen=True, slots=True)
class Person:
    """A member, by all that is compared. `words` are the name's; `phone` is the phone's fingerprint."""

    id: str
    words: tuple[str, ...]
    unit: str
    gender: str
    birth_year: int | None
    phone: str


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`score` is from 0 to 1."""

    score: float
    reasons: tuple[Reason, ...]


def judge(one: Person, other: Person) -> Suspicion | None:
    """Why the two may be one person; None if nothing says so."""
    if _contradict(one, other):
        return None
    name = name_likeness(one.words, other.words)
    if name is None:
        return None
    same_phone, same_unit = one.phone == other.phone, one.unit == other.unit
    near = neighbourhood(one.unit) == neighbourhood(other.unit)
    same_year = one.birth_year is not None and one.birth_year == other.birth_year
    unknown_year = one.birth_year is None or other.birth_year is None
    whole_name = min(len(one.words), len(other.words)) > 1
    if not (same_phone or (near and same_year) or (same_unit and unknown_year and whole_name)):
        return None
    reasons = {
        Reason.SAME_PHONE: same_phone,
        Reason.SAME_NAME: name == 1,
        Reason.SIMILAR_NAME: name < 1,
        Reason.SAME_BIRTH_YEAR: same_year,
        Reason.SAME_UNIT: same_unit,
        Reason.NEAR_UNIT: near and not same_unit,
    }
    score = 0.5 * name + 0.3 * same_year + 0.1 * unknown_year + 0.1 * same_unit + 0.1 * near
    score = max(score, 0.9 * name) if same_phone else score
    return Suspicion(round(score, 2), tuple(reason for reason, holds in reasons.items() if holds))


def name_likeness(one: Sequence[str], other: Sequence[str]) -> float | None:
    """How alike two names are, from `ALIKE` to 1. None unless each word of the shorter is a word of the
    longer, and the longer's first word is among them."""
    shorter, longer = sorted((one, other), key=len)
    left = list(longer)
    total = 0.0
    for word in shorter:
        likeness, best = max(((_same_word(word, each), each) for each in left), default=(0.0, ""))
        if likeness < ALIKE:
            return None
        left.remove(best)
        total += likeness
    if not shorter or longer[0] in left:
        return None
    return total / len(shorter)


def neighbourhood(unit: str) -> str:
    """The block of a booth, and the unit above any deeper one; any other unit is its own."""
    return (parent_of(unit) or unit) if depth_of(unit) >= len(LEVELS) else unit


def common_units(one: str, other: str) -> list[str]:
    """The units whose subtrees contain both, from the top: whoever may access one of them sees both."""
    return [unit for unit in lineage(one) if unit in lineage(other)]


def _contradict(one: Person, other: Person) -> bool:
    genders = {one.gender, other.gender} - {Gender.UNDISCLOSED.value}
    if len(genders) > 1:
        return True
    if one.birth_year is None or other.birth_year is None:
        return False
    return abs(one.birth_year - other.birth_year) > 1


def _same_word(one: str, other: str) -> float:
    """1 for the same word, less for another spelling of it, 0 for another word."""
    if one == other:
        return 1.0
    return spelt_alike(one, other) if sound_key(one) == sound_key(other) else 0.0
