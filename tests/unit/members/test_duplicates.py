"""Which pairs of members are suspected to be one person, measured on real names."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from services.members.duplicates.domain import Person, common_units, judge, name_likeness, neighbourhood
from services.shared.names import sound_key
from services.shared.text import searchable_words
from tests.fixtures.reference import rows

BOOTH = "BR-SARAN-MARHAURA-101"
NEXT_BOOTH = "BR-SARAN-MARHAURA-102"
FAR = "BR-GAYA-TEKARI-7"


def person(name: str, **fields: object) -> Person:
    known = Person(name, searchable_words(name), BOOTH, "female", 1988, f"phone of {name}")
    return replace(known, **fields)  # type: ignore[arg-type]


ASHA = person("Asha Kumari Devi")


@pytest.mark.parametrize(
    ("other", "reasons"),
    [
        (person("आशा देवी", unit=NEXT_BOOTH), ("similar_name", "same_birth_year", "near_unit")),
        (person("Asha Kumari Devi", birth_year=None, phone="new"), ("same_name", "same_unit")),
        (person("Aasha Devi", unit=FAR, birth_year=1989, phone=ASHA.phone), ("same_phone", "same_name")),
        (person("Asha Devi", gender="undisclosed"), ("same_name", "same_birth_year", "same_unit")),
    ],
)
def test_one_person_twice_is_suspected(other: Person, reasons: tuple[str, ...]) -> None:
    for found in (judge(ASHA, other), judge(other, ASHA)):
        assert found is not None
        assert found.reasons == reasons
        assert 0.5 <= found.score <= 1


@pytest.mark.parametrize(
    "other",
    [
        person("Usha Kumari Devi"),  # a twin: other given name, other phone
        person("Nisha Devi", phone=ASHA.phone),  # a sister with the family's phone
        person("Devi"),
        person("Asha Devi", gender="male"),
        person("Asha Devi", birth_year=1960, phone=ASHA.phone),
        person("Asha Devi", unit=FAR),
        person("Asha", birth_year=None),
        person("Asha Devi", unit=NEXT_BOOTH, birth_year=None),
        person("Asha Singh"),
    ],
)
def test_two_people_are_not_suspected(other: Person) -> None:
    assert judge(ASHA, other) is None
    assert judge(other, ASHA) is None


def test_who_may_see_both_may_access_a_unit_above_both() -> None:
    assert common_units(BOOTH, NEXT_BOOTH) == ["BR", "BR-SARAN", "BR-SARAN-MARHAURA"]
    assert common_units(BOOTH, FAR) == ["BR"]
    assert neighbourhood(BOOTH) == neighbourhood("BR-SARAN-MARHAURA") == "BR-SARAN-MARHAURA"


def test_recall_and_precision_on_real_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Each name in both scripts is one person; each and the next name of that gender are twins, who differ in
    the given name alone. A pair that the key of its given name does not find is not found at all."""
    given = rows("names_given.csv")
    found = sum(_is_found(row["latin"], row["devanagari"]) for row in given)
    twins = [
        (one["latin"], other[script])
        for gender in "MF"
        for one, other in pairwise([row for row in given if row["gender"] == gender])
        for script in ("latin", "devanagari")
    ]
    mistaken = sum(_is_found(*pair) for pair in twins)
    recall, precision = found / len(given), found / (found + mistaken)
    with capsys.disabled():
        print(f"\n{len(given)} names, {len(twins)} twins: recall {recall:.3f}, precision {precision:.3f}")
    assert recall >= 0.95
    assert precision >= 0.99


def _is_found(one: str, other: str) -> bool:
    names = searchable_words(f"{one} Paswan"), searchable_words(f"{other} पासवान")
    return sound_key(names[0][0]) in map(sound_key, names[1]) and name_likeness(*names) is not None
