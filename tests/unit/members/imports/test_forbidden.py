"""Columns that no file may have, by heading and by what is in them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.members.imports.columns import columns
from services.members.imports.forbidden import forbidden_cells, forbidden_heading, is_aadhaar
from services.members.imports.reading import UnreadableError, form_of

DATA = Path(__file__).parents[5] / "shared" / "data"
FORBIDDEN = {
    "Aadhaar": (
        *("आधार", "आधार नं.", "आधार क्रमांक", "आधार कार्ड क्रमांक", "आधार नо", "आधार सं0", "आधार_कार्ड", "आधारकार्ड"),
        *(
            "Aadhaar/आधार",
            "AadhaarNumber",
            "aadhaarno",
            "AADHAARNO",
            "Aadhar No (12 digit)",
            "Adhaar",
            "adhar no",
        ),
        *(
            "Addhar",
            "Aadaar",
            "U.I.D.",
            "UID No",
            "ＡＡＤＨＡＡＲ",
            "A\u200badhaar",
            "Áadhaar",
            " " * 300 + "Aadhaar",
        ),
    ),
    "voter id": (
        *("मतदाता क्रमांक", "मतदाता पहचान पत्र क्रमांक", "मतदाता परिचय पत्र", "मतदाता कार्ड", "मतदाता no"),
        *(
            "वोटर आई डी",
            "वोटर आई.डी.",
            "वोटरआईडी",
            "मतदातापहचानपत्र",
            "एपिक नं",
            "निर्वाचक क्रमांक",
            "चुनाव पहचान पत्र",
        ),
        *(
            "EPICNO",
            "epic_no",
            "E.P.I.C. No",
            "EPIC/Voter",
            "Elector ID",
            "VoterID",
            "Voters ID",
            "Matdata Kramank",
        ),
    ),
    "caste": (
        *(
            "जाति (Caste)",
            "Caste/जाति",
            "Caste Name",
            "CASTENAME",
            "जाति का नाम",
            "उप-जाति",
            "जाती",
            "subCaste",
            "Jati",
        ),
        *(
            "GEN/OBC/SC/ST",
            "SC/ST/OBC",
            "S.C./S.T.",
            "Category (SC/ST)",
            "General Category",
            "Gotra name",
            "गोत्र",
        ),
    ),
    "religion": (
        "धर्म/Religion",
        "सम्प्रदाय",
        "संप्रदाय",
        "मज़हब",
        "मजहब",
        "Mazhab",
        "dharma",
        "Relegion",
        "religionName",
    ),
}
ALLOWED = (
    *("Epicentre", "Casteel", "Father Name", "पिता का नाम", "क्र.सं.", "S.No.", "Booth No", "मतदान केंद्र संख्या"),
    *(
        "Polling station no",
        "Region",
        "Category",
        "वर्ग",
        "Gen. Secretary",
        "Broadcast list",
        "Castle",
        "Adarsh",
    ),
    *(
        "धर्मेन्द्र",
        "Dharmendra",
        "धर्मशाला",
        "प्रजाति",
        "Gangadhar",
        "Collector ID",
        "Guide",
        "Fluid No",
        "Election year",
    ),
    *(
        "Member ID",
        "सदस्य आईडी",
        "Email ID",
        "Street No",
        "अध्यक्ष",
        "Community centre",
        "Jatashankar",
        "Liquid",
    ),
)


@pytest.mark.parametrize(
    ("what", "heading"), [(what, each) for what, all_ in FORBIDDEN.items() for each in all_]
)
def test_a_heading_is_known_by_its_words(what: str, heading: str) -> None:
    assert forbidden_heading(heading) == what
    for mapping in ({}, {heading: "ignore"}, {heading: "sharechat"}):
        with pytest.raises(UnreadableError, match=f"forbidden_column.*{what}"):
            columns(("name", "phone", heading), mapping)


@pytest.mark.parametrize("heading", ALLOWED)
def test_a_heading_that_only_begins_alike_is_allowed(heading: str) -> None:
    assert forbidden_heading(heading) is None


def test_no_name_of_a_person_is_a_forbidden_heading() -> None:
    names = []
    for file in ("names_given.csv", "names_last_token.csv"):
        with (DATA / file).open(encoding="utf-8") as content:
            names += [word for row in csv.DictReader(content) for word in (row["latin"], row["devanagari"])]
    assert len(names) > 1500
    assert [name for name in names if forbidden_heading(name)] == []


@given(st.sampled_from(["Aadhaar No", "मतदाता क्रमांक", "caste", "धर्म"]), st.sampled_from(" _-./()*#\u200b\n"))
def test_punctuation_and_case_hide_no_heading(heading: str, mark: str) -> None:
    for typed in (heading.upper(), heading.title(), mark + heading + mark, heading.replace(" ", mark + " ")):
        assert forbidden_heading(typed)


def test_keys_of_json_are_headings() -> None:
    form = form_of(b'{"name": "A", "phone": "1", "aadhaarNumber": "2"}\n', "ndjson")
    with pytest.raises(UnreadableError, match="forbidden_column"):
        columns(form.header, {})


NUMBERS = {
    "Aadhaar": ("2341 2341 2346", "234123412346", "'2341-2341-2346", "२३४१ २३४१ २३४६"),
    "voter id": ("ABC1234567", "abc1234567", "ABC 1234567", "BR/12/345/678901"),
    "caste": ("OBC", "EBC", "sc", "St"),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_a_column_is_known_by_its_cells_whatever_its_heading(what: str) -> None:
    cells = NUMBERS[what]
    assert forbidden_cells([*cells, "", " ", "n.a."]) == what
    assert forbidden_cells([*cells, *["else"] * 4]) is None
    sample = [("A", "9876543210", cell) for cell in cells]
    with pytest.raises(UnreadableError, match=f"forbidden_column.*{what} in column 3") as refused:
        columns(("name", "phone", "Remarks"), {"Remarks": "sharechat"}, sample)
    assert not any(cell in refused.value.detail for cell in cells)


def test_the_check_digit_tells_aadhaar_from_phones() -> None:
    assert is_aadhaar("2341 2341 2346")
    assert sum(is_aadhaar(f"23412341234{n}") for n in range(10)) == 1
    assert not any(is_aadhaar(f"9198765432{n:02d}") for n in range(100)), "with the country's code"
    assert not any(is_aadhaar(f"1341234123{n:02d}") for n in range(100))
    phones = [f"98765{n:05d}" for n in range(50)]
    assert forbidden_cells(phones) is None
    assert forbidden_cells([f"91{phone}" for phone in phones]) is None


def test_a_worst_heading_takes_no_time() -> None:
    for worst in ("a" * 60_000, "aadh" * 15_000, "a " * 30_000, "मतदाता" * 10_000, "ी" * 60_000):
        forbidden_heading(worst)
