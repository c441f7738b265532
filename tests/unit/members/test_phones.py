"""Phone numbers as people type them become E.164 or are refused."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from services.members.core.phones import BlindIndex, normalise

MOBILE = st.from_regex(r"[6-9][0-9]{9}", fullmatch=True)


@pytest.mark.parametrize(
    ("typed", "e164"),
    [
        ("9812345678", "+919812345678"),
        ("09812345678", "+919812345678"),
        ("919812345678", "+919812345678"),
        ("+919812345678", "+919812345678"),
        ("00919812345678", "+919812345678"),
        ("98123 45678", "+919812345678"),
        (" (+91) 98123-45678 ", "+919812345678"),
        ("\u202a+91 98123 45678\u202c", "+919812345678"),  # as copied from WhatsApp
        ("\uff0b91 98123 45678", "+919812345678"),
        ("९८१२३४५६७८", "+919812345678"),
        ("9198123456", "+919198123456"),  # ten digits: the 91 is no country code
        ("7999999999", "+917999999999"),
        ("06152 222333", "+916152222333"),  # a landline in Chapra
        ("+1 202 555 0123", "+12025550123"),
        ("+977 9841234567", "+9779841234567"),
    ],
)
def test_understood(typed: str, e164: str) -> None:
    assert normalise(typed) == e164


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "0",
        "100",
        "12345",
        "98123456789",
        "+9198123456789",
        "+91 00000 00000",
        "+999 12345678",
        "98123 45678 ext 5",
        "1800FLOWERS",
        "1800 11 4000",
        "asha",
        "+91-98123-45678; +91-98123-45679",
        "9" * 5000,
        "\u200b",
    ],
)
def test_refused_without_repeating_it(typed: str) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        normalise(typed)
    assert len(typed) < 3 or typed not in refused.value.message()


@given(
    MOBILE,
    st.sampled_from(["", "0", "91", "+91", "+91 ", "0091", "91-"]),
    st.sampled_from(["", " ", "-", "."]),
)
def test_every_indian_mobile_however_written(digits: str, prefix: str, gap: str) -> None:
    assert normalise(f"{prefix}{digits[:5]}{gap}{digits[5:]}") == f"+91{digits}"


@given(MOBILE, st.sampled_from(["", "0", "91", "+91"]))
def test_the_short_cut_agrees_with_the_tables(digits: str, prefix: str) -> None:
    number = phonenumbers.parse(prefix + digits, "IN")
    if phonenumbers.is_valid_number(number):
        e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        assert normalise(prefix + digits) == e164


@given(st.text(max_size=80) | st.text("+0123456789 ()-.;x", max_size=30))
@example("+91" + "٩" * 10)
@example("+" * 60)
def test_any_text_becomes_e164_or_is_refused(typed: str) -> None:
    try:
        e164 = normalise(typed)
    except PydanticCustomError:
        return
    assert e164[0] == "+"
    assert e164[1:].isascii()
    assert e164[1:].isdigit()
    assert 8 <= len(e164) <= 16
    assert normalise(e164) == e164


def test_the_blind_index_depends_on_number_and_key() -> None:
    one, other = BlindIndex(b"a" * 32), BlindIndex(b"b" * 32)
    assert one.of("+919812345678") == one.of("+919812345678") == BlindIndex(b"a" * 32).of("+919812345678")
    assert len({one.of("+919812345678"), one.of("+919812345679"), other.of("+919812345678")}) == 3
    assert len(one.of("+919812345678")) == 44
