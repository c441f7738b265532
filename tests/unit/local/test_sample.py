"""The sample tree and names are complete and consistent."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from infra.local.demo.people import NAMES, Names
from infra.local.demo.tree import COLUMNS, SAMPLE
from services.groups.tree.csv_rows import check_rows, read_rows
from services.shared.contracts.vocabulary import LEVELS, depth_of, parent_of
from services.shared.text import clean

DEVANAGARI = re.compile(r"[\u0900-\u097f\u200c\u200d ,()]+")
LATIN = re.compile(r"[A-Za-z ,()]+")

Rows = list[dict[str, str]]


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def units() -> Rows:
    return read(SAMPLE)


def test_the_columns_are_those_of_the_import(units: Rows) -> None:
    assert tuple(units[0]) == COLUMNS


def test_bihar_has_thirty_eight_districts_and_two_of_them_their_blocks(units: Rows) -> None:
    assert Counter(row["level"] for row in units) == {"state": 1, "district": 38, "block": 43, "booth": 64}
    blocks = Counter(parent_of(row["code"]) for row in units if row["level"] == "block")
    assert blocks == {"BR-SARAN": 20, "BR-PATNA": 23}
    booths = Counter(row["code"].split("-")[1] for row in units if row["level"] == "booth")
    with_booths = {parent_of(row["code"]) for row in units if row["level"] == "booth"}
    assert set(booths) == {"SARAN", "PATNA"}
    assert len(with_booths) == 6


def test_codes_are_unique_and_every_parent_comes_first(units: Rows) -> None:
    seen: set[str | None] = {None}
    for row in units:
        assert row["code"] not in seen
        assert parent_of(row["code"]) in seen
        assert LEVELS[depth_of(row["code"]) - 1] == row["level"]
        seen.add(row["code"])


def test_every_name_is_there_in_both_scripts_and_clean(units: Rows) -> None:
    for row in units:
        assert LATIN.fullmatch(row["name_en"]), row
        assert DEVANAGARI.fullmatch(row["name_hi"]), row
        for name in (row["name_en"], row["name_hi"]):
            assert unicodedata.is_normalized("NFC", name)
            assert clean(name) == name
    names = Counter((parent_of(row["code"]), row["name_hi"]) for row in units)
    assert max(names.values()) == 1, "two units below one unit must not share a name"


def test_groups_takes_every_row(units: Rows) -> None:
    accepted, errors, _ = check_rows(read_rows(SAMPLE.read_bytes()))
    assert errors == []
    assert len(accepted) == len(units)


def test_names() -> None:
    rows = read(NAMES)
    assert Counter((row["part"], row["gender"]) for row in rows if row["part"] == "given") == {
        ("given", "female"): 60,
        ("given", "male"): 60,
    }
    assert sum(row["part"] == "last" for row in rows) == 20
    for row in rows:
        assert LATIN.fullmatch(row["latin"])
        assert DEVANAGARI.fullmatch(row["devanagari"])
        assert unicodedata.is_normalized("NFC", row["devanagari"])
    for column in ("latin", "devanagari"):
        assert len({(row["part"], row[column]) for row in rows}) == len(rows)


def test_last_words_that_go_with_one_gender_stay_with_it() -> None:
    last = Names.read().last
    assert "देवी" in last["female"]
    assert "देवी" not in last["male"]
    assert "सिंह" in last["female"]
    assert "सिंह" in last["male"]
