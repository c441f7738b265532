"""Headers, phones and other cells as people type them."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.members.core.domain import Contact, Member
from services.members.core.schemas import Label
from services.members.directory.export import csv_header, csv_rows
from services.members.imports.cells import RefusedError, draft, phones
from services.members.imports.columns import columns
from services.members.imports.legacy_fonts import is_legacy, mostly_legacy
from services.members.imports.reading import Place, UnreadableError, form_of, read_slice
from services.shared.text import Name

DATA = Path(__file__).parents[5] / "shared" / "data"
A, B = "+919876543210", "+919123456780"


@pytest.mark.parametrize(
    "typed",
    [
        "9876543210",
        "09876543210",
        "919876543210",
        "+91 98765-43210",
        "+91 098765 43210",
        "0091 9876543210",
        "'9876543210",
        "tel:+91-9876543210",
        "Mob. 98765 43210",
        "(98765) 43210",
        "98765.43210",
        "९८७६५४३२१०",
        "+९१ ९८७६५ ४३२१०",
        "৯৮৭৬৫৪৩২১০",
        "9876543210.0",
        " 9876543210 ",
    ],
)
def test_a_phone_as_people_type_it(typed: str) -> None:
    assert phones(typed) == (A,)


@pytest.mark.parametrize(
    "typed",
    [f"{A},{B}", "9876543210/9123456780", "9876543210 या 9123456780", "9876543210 9123456780", f"{A}\n{B}"],
)
def test_of_two_numbers_in_a_cell_the_first_is_taken_and_that_is_noted(typed: str) -> None:
    assert phones(typed) == (A, B)
    assert draft(["phone"], [typed]).notes == ("second_number",)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("98765 43210 91234 56780", (A, B)),
        ("9876543210-9123456780", (A, B)),
        ("+919876543210-09123456780", (A, B)),
        ("Mob-9876543210", (A,)),
        ("0612 2345678, 9876543210", (A, "+916122345678")),
    ],
)
def test_numbers_that_are_run_together_and_landlines_last(typed: str, found: tuple[str, ...]) -> None:
    assert phones(typed) == found


@pytest.mark.parametrize("typed", ["9876543210 / n.a.", "n.a., 9876543210", "9876543210, 9876543210"])
def test_one_number_and_something_else_is_one_number(typed: str) -> None:
    assert phones(typed) == (A,)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("9.87654E+09", "spreadsheet_number"),
        ("9,87654E+09", "spreadsheet_number"),
        ("9.87654 E+09", "spreadsheet_number"),
        ("9.87654321e9", "spreadsheet_number"),
        ("98765", "phone"),
        ("1234 5678 9012", "phone"),
        ("1800 11 2233", "phone"),
        ("=1+2", "phone"),
        ("call her son", "phone"),
        ("9" * 5000, "phone"),
    ],
)
def test_a_phone_that_cannot_be_one_is_refused_by_its_name(typed: str, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        phones(typed)
    assert refused.value.reason == reason
    assert typed not in str(refused.value)


def test_cells_become_values_and_blank_ones_none() -> None:
    fields = (
        *("name", "phone", "gender", "language", "preferred_channel", "birth_year", "unit", "email"),
        *("platforms", "x", None),
    )
    cells = (" Asha  Devi ", "9876543210", "महिला", "Hindi", "व्हाट्सऐप", "12/05/1988", "br-saran", "a@B.in")
    made = draft(fields, (*cells, "whatsapp:asha; facebook: a.b", "'@asha", "ignored"))
    assert made.values == {
        "name": "Asha Devi",
        "phone": A,
        "gender": "female",
        "language": "hi",
        "preferred_channel": "whatsapp",
        "birth_year": 1988,
        "unit": "BR-SARAN",
        "email": "a@b.in",
    }
    assert made.handles == {"whatsapp": "asha", "facebook": "a.b", "x": "@asha"}
    assert draft(fields, [""] * 10).values == {}


@pytest.mark.parametrize(
    ("field", "cell", "reason"),
    [
        ("name", "=HYPERLINK(1)", "formula"),
        ("name", "=cmd|' /C calc'!A0", "formula"),
        ("name", "+91 98765", "formula"),
        ("name", "@SUM(A1)", "formula"),
        ("name", "12345", "name"),
        ("gender", "perhaps", "gender"),
        ("language", "Klingon", "language"),
        ("birth_year", "88", "birth_year"),
        ("preferred_channel", "pigeon", "preferred_channel"),
        ("birth_year", "1988 or 1989", "birth_year"),
        ("unit", "Saran district", "unit"),
        ("email", "asha at example", "email"),
        ("id", "17", "id"),
        ("platforms", "orkut:asha", "platforms"),
        ("consent", "maybe", "consent"),
    ],
)
def test_a_cell_that_cannot_be_meant_refuses_the_row(field: str, cell: str, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        draft([field], [cell])
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (("Name", "Mobile No.", "Sex"), ("name", "phone", "gender")),
        (("नाम", "मोबाईल नम्बर", "लिंग"), ("name", "phone", "gender")),
        (("सदस्य का नाम", "फ़ोन नं.", "जन्म तिथि"), ("name", "phone", "birth_year")),
        (("\ufeffPHONE_NUMBER", "E-Mail", "Remarks"), ("phone", "email", None)),
        (("S. No.", "Full Name", "Contact No", "Unit Code"), (None, "name", "phone", "unit")),
        (("phone", "Contact by"), ("phone", "preferred_channel")),
        (("ID", "phone"), (None, "phone")),  # somebody's own numbering
    ],
)
def test_columns_are_known_by_their_names_in_two_languages(header, fields) -> None:
    assert columns(header, {}, [("1", "x")]) == fields


def test_a_mapping_goes_before_the_names() -> None:
    header = ("Mob 1", "Mobile", "Name")
    assert columns(header, {"mob 1": "phone", "Mobile": "ignore"}) == ("phone", None, "name")


def test_columns_of_one_name_are_told_apart_by_their_place() -> None:
    header = ("Name", "Mobile", "Mobile", "Mobile No.")
    with pytest.raises(UnreadableError, match=r"column_twice.*Mobile#2"):
        columns(header, {})
    rest = {"Mobile#1": "ignore", "Mobile #3": "whatsapp"}
    assert columns(header, rest) == ("name", None, "phone", "whatsapp")
    assert columns(header, {"Mobile": "ignore", "mobile#2": "phone"}) == ("name", None, "phone", None)
    assert columns(("Name", "Mobile #2"), {"Mobile #2": "phone"}) == ("name", "phone")
    for absent in ("Mobile#4", "Mobile#0", "Phone#1"):
        with pytest.raises(UnreadableError, match="mapping"):
            columns(header, {absent: "phone"})


FORBIDDEN = (
    *("Caste", "जाति", "Sub-Caste", "Religion", "धर्म", "EPIC No.", "Voter ID", "मतदाता पहचान पत्र संख्या"),
    *("AADHAAR NO", "Aadhar Card Number", "आधार नं"),
)


@pytest.mark.parametrize("header", FORBIDDEN)
def test_a_column_that_no_file_may_have_refuses_it(header: str) -> None:
    for mapping in ({}, {header: "ignore"}):
        with pytest.raises(UnreadableError, match="forbidden_column"):
            columns(("name", "phone", header), mapping)


@pytest.mark.parametrize(
    ("header", "mapping", "reason"),
    [
        (("phone", "mobile"), {}, "column_twice"),
        (("name", "email"), {}, "no_phone_column"),
        (("phone",), {"phone": "telephone"}, "mapping"),
        (("phone",), {"nowhere": "name"}, "mapping"),
    ],
)
def test_columns_that_do_not_say_who_is_who_refuse_the_file(header, mapping, reason) -> None:
    with pytest.raises(UnreadableError, match=reason):
        columns(header, mapping)


def test_a_name_in_a_legacy_font_is_marked() -> None:
    assert draft(["name"], ["eqds'k dqekj"]).legacy
    assert not draft(["name"], ["Mukesh Kumar"]).legacy


_MARKS = ("'", "''", "=", "+", "-", "@", "%", "|", "\\", "\\|", "a", "1", ",", '"', ";", "आ", " ")
_TEXT = st.lists(st.sampled_from(_MARKS) | st.characters(codec="utf-8"), max_size=6).map("".join)


@settings(max_examples=500, deadline=None)
@given(_TEXT, _TEXT)
def test_what_an_export_writes_is_read_as_it_was(name: str, handle: str) -> None:
    """Every name and handle that the service accepts survives the way out and back."""
    try:
        name, handle = TypeAdapter(Name).validate_python(name), TypeAdapter(Label).validate_python(handle)
    except ValidationError:
        assume(False)
    now = datetime(2026, 11, 27, tzinfo=UTC)
    member = Member(
        id="01a20901-0000-7000-8000-000000000001",
        name=name,
        unit="BR",
        gender="female",
        language="hi",
        joined_at=now,
        updated_at=now,
    )
    content = csv_header() + csv_rows([(member, Contact(A, None, {"x": handle}))])
    form = form_of(content, "csv")
    place = Place(form.start, form.line)
    [row] = read_slice(form, content[form.start :], place, at_end=True).rows
    made = draft(columns(form.header, {}, [row.cells]), row.cells)
    assert row.problem is None
    assert (made.values["name"], made.handles) == (name, {"x": handle})
    assert made.numbers == (A,)


LEGACY = (
    "Jherh vk'kk nsoh",
    "eqds'k dqekj",
    "jke dqekj flag",
    ";ksxsUnz ;kno",
    "[kq'kcw dqekjh",
    "ÎðÃUè",
    "vt; dqekj",
)


@pytest.mark.parametrize("name", LEGACY)
def test_a_name_in_a_font_from_before_unicode_is_recognised(name: str) -> None:
    assert is_legacy(name)


def test_no_real_name_is_taken_for_such_a_font() -> None:
    with (DATA / "names_given.csv").open(encoding="utf-8") as given:
        names = [word for row in csv.DictReader(given) for word in (row["latin"], row["devanagari"])]
    with (DATA / "names_last_token.csv").open(encoding="utf-8") as last:
        names += [word for row in csv.DictReader(last) for word in (row["latin"], row["devanagari"])]
    names += [
        *map(str.lower, names),
        "D'Souza",
        "Sha'kira",
        "José",
        "Zoë Müller",
        "Müller Ñáé",
        "S.K. Jha",
        "Ram/Kumar",
    ]
    assert len(names) > 1500
    assert [name for name in names if is_legacy(name)] == []


def test_a_column_counts_as_such_by_its_share() -> None:
    assert mostly_legacy([*LEGACY, "lhek", "", *["Asha"] * 8])
    assert not mostly_legacy([LEGACY[0], *["Asha"] * 8])
    assert mostly_legacy(["vuhrk", "eatw", "eukst", "lquhy", "iwue", "vt;", "vfuy", "laxhrk", "ehuk"])
    assert mostly_legacy([*LEGACY[:2], *["Asha"] * 10]), "the others of a mixed file may not be recognised"
    assert not mostly_legacy([])
