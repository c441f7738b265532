"""The entries by which two words of a name are found together hide nobody whom the words would find."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.members.core.domain import Member
from services.members.core.search_fields import MANY_WORDS, search_fields, sound_pair, spelt_pair
from services.members.directory.store import pair_of
from services.shared.names import begins, sound_key
from services.shared.text import searchable_words
from tests.fixtures.reference import rows

NOW = datetime(2026, 11, 27, tzinfo=UTC)
WORDS = [row[script] for row in rows("names_given.csv")[:60] for script in ("latin", "devanagari")]
WORDS += ["Md", "Ram", "Ramesh", "Rameshwar", "Jha", "गुल\u200cनाज़", "A", "Khan", "Khanna"]


def keys_of(name: str) -> list[str]:
    member = Member(
        id="x", name=name, unit="BR", gender="female", language="hi", joined_at=NOW, updated_at=NOW
    )
    keys: list[str] = search_fields(member)["keys"]
    return keys


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7), st.data())
def test_nobody_is_hidden(name_words: list[str], data: st.DataObject) -> None:
    name = " ".join(name_words)
    words, keys = searchable_words(name), keys_of(name)
    picked = data.draw(st.lists(st.sampled_from(words), min_size=2, max_size=4))
    typed = [word[: data.draw(st.integers(1, len(word)))] for word in picked]
    assert begins(typed, words)
    assert found_by(keys, typed, spelt=True)
    sounds = set(map(sound_key, words))
    if all(sound_key(word) in sounds for word in typed):
        assert found_by(keys, typed, spelt=False)
    begun = [next((s for s in sounds if s.startswith(sound_key(word))), None) for word in typed]
    if all(begun) and all(len(sound_key(word)) >= 3 for word in typed):
        assert found_by(keys, typed, spelt=False)


def found_by(keys: list[str], typed: list[str], *, spelt: bool) -> bool:
    condition = pair_of(typed, spelt_pair if spelt else sound_pair)
    return not condition or bool(set(condition["keys"]["$in"]) & set(keys))


@pytest.mark.parametrize(
    ("one", "other", "pair"),
    [
        ("shyam", "jha", "~jha+shy"),
        ("jha", "shya", "~jha+shy"),
        ("ram", "rameshwar", None),
        ("md", "khan", None),
    ],
)
def test_a_pair_is_of_two_different_beginnings(one: str, other: str, pair: str | None) -> None:
    assert spelt_pair(one, other) == pair


def test_pairs_are_few() -> None:
    assert keys_of("Shyam Jha") == [sound_key("shyam"), sound_key("jha"), "~jha+shy", "^j+sn"]
    assert set(keys_of("आशा देवी")) & set(keys_of("Asha Devi")) == {"As", "db", "^As+db"}
    assert len(keys_of("Asha Kumari Devi Paswan")) <= 4 + 12
    assert keys_of("Md Asha Kumari Devi Paswan")[-1] == MANY_WORDS
