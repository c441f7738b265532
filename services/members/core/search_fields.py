"""Fields of a document that are derived from its member, by which the directory finds it.

`words` of the name; `keys`, how they sound (`shared/names.py`), and which two of them the name has; `units`,
those whose subtrees contain the member; `facets`, whatever few members have (a role, a platform, an uncommon
language), in each of these units; and `searchable`, which says from what they were derived: `<rules>:<the
member's version>`.

An index on `units` or `facets` finds the members of a subtree in the order of ids. It can hold one array
only, so a facet names its unit. Each entry costs every registration, so there are none that buy nothing: a
unit of the lowest level is found by `unit` too, and a page of members who share a common value is soon found
among all members of the subtree.

Many have one of two common words, few have both: a pair of them is one entry among the keys. Without it a
search by two words reads all members who have the rarer one.

A process of an earlier release changes a member without these fields: then `searchable` is not of the
member's version, and `directory/freshness.py` derives them anew. They say where to look, never whether a
member matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from services.members.core.domain import Member, Status
from services.shared.contracts.vocabulary import LEVELS, Gender, Language, depth_of
from services.shared.database import Document
from services.shared.identity import ALL_UNITS
from services.shared.names import sound_key
from services.shared.text import searchable_words

RULES: Final = 2
"""Raised with every change of what is derived, so that it is derived anew for all members."""
FIELDS: Final = ("words", "keys", "units", "facets", "searchable")
MANY_WORDS: Final = "~"
"""The one entry of a name with more words than are paired: few names have it."""
_PAIRED: Final = 4
_START: Final = 3
"""Letters of a word, or of its key, that are in a pair."""
COMMON: Final = frozenset(
    {
        *(("gender", gender.value) for gender in (Gender.FEMALE, Gender.MALE)),
        ("language", Language.HINDI.value),
        ("status", Status.ACTIVE.value),
    }
)
"""Values that many members of any large subtree have."""


def search_fields(member: Member) -> Document:
    """The values of `FIELDS` for a member."""
    words = searchable_words(member.name)
    units = _units(member.unit)
    values = [("gender", member.gender), ("language", member.language), ("status", member.status)]
    values += [("platform", platform) for platform in member.platforms]
    values += dict.fromkeys(("role", each.role) for each in member.roles)
    uncommon = [value for value in values if value not in COMMON]
    return {
        "words": list(words),
        "keys": list(dict.fromkeys((*map(sound_key, words), *_pairs(words)))),
        "units": [each for each in units if each != member.unit or not is_lowest(each)],
        "facets": [facet(unit, *value) for value in uncommon for unit in (ALL_UNITS, *units)],
        "searchable": f"{RULES}:{member.version}",
    }


def facet(root: str, field: str, value: str) -> str:
    """The facet of members of a subtree (of all: `*`) who have this value, as `BR-GAYA role:coordinator`."""
    return f"{root} {field}:{value}"


def spelt_pair(one: str, other: str) -> str | None:
    """The entry of names with a word that begins like `one` and another that begins like `other`, by their
    letters; None for words that are too short, or begin alike: both may be the beginning of one word."""
    return _pair("~", one, other) if min(len(one), len(other)) >= _START else None


def sound_pair(one: str, other: str) -> str | None:
    """As `spelt_pair`, by how the two words sound."""
    return _pair("^", sound_key(one), sound_key(other))


def is_lowest(unit: str) -> bool:
    """Whether the unit is of the lowest level of a tree as shipped, or below: in most trees its subtree is
    itself, so its members need no entry for it."""
    return depth_of(unit) >= len(LEVELS)


def _pairs(words: Sequence[str]) -> list[str]:
    if len(words) > _PAIRED:
        return [MANY_WORDS]
    made = [make(*two) for two in combinations(words, 2) for make in (spelt_pair, sound_pair)]
    return [pair for pair in made if pair]


def _pair(mark: str, one: str, other: str) -> str | None:
    first, second = sorted((one[:_START], other[:_START]))
    return None if first == second else f"{mark}{first}+{second}"


def _units(unit: str) -> list[str]:
    """The units whose subtrees contain `unit`, from the top: `["BR", "BR-GAYA"]`."""
    return [*(unit[:at] for at, char in enumerate(unit) if char == "-"), unit]
