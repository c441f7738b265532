"""Rosters in the forms in which phones and people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.groups.rosters.entries import MAX_LINE, decode, read

ID = "0197b8a0-0000-7000-8000-00000000000a"


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("+91 98765 43210", ["+91 98765 43210"]),
        ("9876543210", ["9876543210"]),
        ("Asha Devi,(+91) 98765-43210,BR-SARAN-12", ["(+91) 98765-43210"]),
        ("~Asha\t+919876543210, +919876543211", ["+919876543210", "+919876543211"]),
        ("आशा ९८७६५ ४३२१०", ["98765 43210"]),
        ("Booth 12", []),
        ("Group admin", []),
        ("\u200e+91\u00a098765\u00a043210\u202c", ["+91 98765 43210"]),
    ],
)
def test_numbers_are_found_and_the_rest_is_left(line: str, numbers: list[str]) -> None:
    entries = read(["Name,Phone", line])
    assert list(entries.numbers) == numbers
    assert entries.unreadable == (0 if numbers else 1)


def test_a_contact_list_as_a_phone_exports_it() -> None:
    card = [
        *("BEGIN:VCARD", "VERSION:3.0", "FN:Asha Devi 84000012345", "ADR;TYPE=HOME:;;12345678 Road;;;;"),
        *("TEL;TYPE=CELL:+91-98765-43210", "item1.TEL;CELL:098765 43211", "END:VCARD"),
    ]
    entries = read(card, vcard=True)
    assert entries.numbers == ("+91-98765-43210", "098765 43211")
    assert entries.unreadable == 0


def test_one_person_on_two_lines_is_one_entry() -> None:
    entries = read([ID, ID.upper(), "98765 43210", "98765-43210"])
    assert (entries.ids, entries.numbers) == ((ID,), ("98765 43210",))


def test_text_of_spreadsheets() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert decode("नाम,98765".encode(encoding)) == "नाम,98765"
    with pytest.raises(UnicodeDecodeError):
        decode(b"\xffabc")


@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_nonsense_is_read_in_bounds(lines: list[str]) -> None:
    entries = read([*lines, "7" * (2 * MAX_LINE)])
    assert all(len(number) <= 60 and number.isascii() for number in entries.numbers)
    assert entries.unreadable <= len(lines) + 1
