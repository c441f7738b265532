"""Cleaning and splitting text: examples for the rules, properties for everything else."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.shared.text import REFUSED, Name, ShortText, clean, searchable_words, words

KSHA = "क्ष"
ANY_TEXT = (
    st.text()
    | st.text(alphabet="aक्षऱ्\u200d\u200c\u0301\u00a0\ufe0f\x00 é")
    | st.text(alphabet="گلرا\u064f\u0651র্য়া\u200d\u200cക്ിේ් a")
)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  Asha   Devi ", "Asha Devi"),
        ("Asha\tDevi\r\nKumari", "Asha Devi Kumari"),
        ("e\u0301", "é"),
        ("\ufeffआशा\u200b", "आशा"),
        ("a\u202eb\u2066c\u2069", "abc"),
        ("a\x00b\x7f", "ab"),
        ("a\ue000b\ud800c\u0378", "abc"),
        ("\u2764\ufe0f", "\u2764"),
        ("A\u3164B\u2800C", "ABC"),
        ("one\u3000two\u2028three", "one two three"),
        ("a\u200db", "ab"),
        ("\u200c\u200d", ""),
        ("क्\u200dष", "क्\u200dष"),
        ("क्\u200cष", "क्\u200cष"),
        ("क्\u200c", "क्"),
        ("क्\u200c आशा", "क् आशा"),
        ("क\u200dष", "कष"),
        ("नूर\u200cजहाँ", "नूरजहाँ"),
        ("نور\u200cجہاں", "نورجہاں"),  # re joins nothing after it
        ("گل\u200cناز", "گل\u200cناز"),
        ("مُحَمَّد\u200cعلی", "مُحَمَّدعلی"),
        ("شمس\u064f\u200cالنساء", "شمس\u064f\u200cالنساء"),
        ("گل\u200c ناز", "گل ناز"),
        ("گل\u200c۱", "گل۱"),
        ("گل\u200dناز", "گلناز"),
        ("گل\u200cA", "گلA"),
        ("উদ্\u200cযাপন", "উদ্\u200cযাপন"),
        ("র\u200d্যাবেয়া", "র\u200d্যাবেয়া"),
        ("র্\u200dযা", "র্\u200dযা"),
        ("র\u200dা", "রা"),
        ("क\u200d्य", "क्य"),
        ("നന്\u200d", "നന്\u200d"),
        ("ന്\u200dാ", "ന്ാ"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        ("ક્\u200cષ", "ક્\u200cષ"),
        ("क़्\u200cय", "क़्\u200cय"),
        ("क्\u200d\u200dष", "क्\u200dष"),
    ],
)
def test_clean(raw, cleaned):
    assert clean(raw) == cleaned


@given(ANY_TEXT)
@example("\u0301\x00\u094d\u200d")
@example("\u0301\u200c\u094d\u200d")
@example("\u1fef \u212b")
def test_clean_is_idempotent_and_leaves_nothing_invisible(text):
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    assert "  " not in once
    for char in once:
        assert unicodedata.category(char) not in {"Cc", "Cn", "Co", "Cs", "Zl", "Zp"}
        assert unicodedata.category(char) != "Cf" or char in "\u200c\u200d"


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1))
def test_clean_keeps_visible_text(text):
    assert clean(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Asha DEVI", ("asha", "devi")),
        ("आशा देवी", ("आशा", "देवी")),
        ("D'Souza-Khan", ("d", "souza", "khan")),
        ("Asha asha ASHA", ("asha",)),
        ("Ａｓｈａ", ("asha",)),
        ("Straße", ("strasse",)),
        ("क्\u200dषमा", ("क्षमा",)),
        ("…!?", ()),
    ],
)
def test_words(name, expected):
    assert words(name) == expected


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("گل\u200cناز خاتون", ("گلناز", "خاتون", "گل", "ناز")),
        ("উদ্\u200cযাপন", ("উদ্যাপন", "উদ্", "যাপন")),
        ("Asha Devi", ("asha", "devi")),
    ],
)
def test_a_name_is_found_whole_and_by_each_part(name, parts):
    assert searchable_words(name) == parts
    assert set(words(name.replace("\u200c", ""))) <= set(parts), "whoever types no joiner finds it too"


@given(ANY_TEXT)
@example("\u0345\u037a")
def test_words_of_words_are_themselves(text):
    once = words(text)
    assert words(" ".join(once)) == once
    assert all(word and " " not in word for word in once)


@given(st.text(alphabet="abcDEFअआइकखग"), st.integers(0, 10))
def test_a_typed_prefix_finds_its_word(name, length):
    for word in words(name):
        (prefix,) = words(word[: length + 1])
        assert word.startswith(prefix)


def check(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value)


def test_name_is_cleaned():
    assert check(Name, " आशा \u200b  देवी ") == "आशा देवी"


@pytest.mark.parametrize(
    "value", ["", "   ", "\u200b", "123", "!!", "a" * 201, "\u200b" * 900, 7, None, b"Asha"]
)
def test_name_refuses(value):
    with pytest.raises(ValidationError):
        check(Name, value)


def test_name_counts_characters_after_cleaning():
    assert len(check(Name, "a" * 200 + "  \u200b")) == 200


def test_short_text_needs_no_letter_but_has_a_limit():
    assert check(ShortText, " 42 ") == "42"
    with pytest.raises(ValidationError) as refusal:
        check(ShortText, "x" * 501)
    assert refusal.value.errors()[0]["type"] == REFUSED


@pytest.mark.parametrize("value", ["५" * 201, "\u200b", "९८"])
def test_refusals_do_not_repeat_the_input(value):
    with pytest.raises(ValidationError) as refusal:
        check(Name, value)
    assert value not in refusal.value.errors()[0]["msg"]


def test_clean_splits_conjuncts_never():
    assert clean(KSHA) == KSHA
