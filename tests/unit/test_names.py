"""How names sound: spellings and scripts of one name meet in one key, and its best matches come first."""

from __future__ import annotations

from collections import defaultdict

import pytest

from services.shared.names import latin, likeness, sound_key
from services.shared.text import words
from tests.fixtures.reference import rows


@pytest.mark.parametrize(
    "spellings",
    [
        "Shrivastav Srivastava Shreevastava श्रीवास्तव শ্রীবাস্তব ਸ਼੍ਰੀਵਾਸਤਵ શ્રીવાસ્તવ",
        "Laxmi Lakshmi Lakshmee लक्ष्मी",
        "Mohammad Mohammed Muhammad Mohamad मोहम्मद मुहम्मद মোহাম্মদ",
        "Iqbal Ikbal इक़बाल इकबाल",
        "Choudhary Chaudhari Chaudhry Chowdhury चौधरी চৌধুরী",
        "Gyanendra ज्ञानेन्द्र",
        "Singh सिंह ਸਿੰਘ",
        "Yadav Jadav यादव যাদব",
        "Vikash Bikash Vikas विकास বিকাশ",
        "Zarina Jarina ज़रीना",
        "Phool Ful फूल",
        "Garhwal गढ़वाल",
        "Dolly Doli डॉली",
        "Chandni चाँदनी चांदनी",
        "Prince प्रिंस",
        "Verma Varma वर्मा",
        "René Rene",
    ],
)
def test_spellings_of_a_name_have_one_key(spellings: str) -> None:
    assert len({sound_key(word) for each in spellings.split() for word in words(each)}) == 1


def test_other_names_have_other_keys() -> None:
    names = ["Asha", "Sunita", "Ramesh", "Mahesh", "Kavita", "Mohan", "सोहन", "गीता", "محمد", "احمد", "খালেদা"]
    assert len({sound_key(word) for each in names for word in words(each)}) == len(names)


@pytest.mark.parametrize(
    "word", ["", "h", "y", "101", "١٢", "\u093f", "\u0301", "क्", "x" * 200, "क्ष" * 100, "श्री" * 60, "محمد"]
)
def test_any_word_has_a_key(word: str) -> None:
    """For all that `words` may answer: no word is lost, so no name finds everybody."""
    assert bool(sound_key(word)) == bool(word)
    assert len(latin(word)) <= 200


def test_likeness_puts_the_same_word_first_then_beginnings_then_sounds() -> None:
    ordered = ["asha", "ashalata", "आशा", "usha", "kavita"]
    scores = [likeness(["asha"], [each]) for each in ordered]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 2
    assert scores[1] > 1 >= scores[2] > scores[3] > scores[4]
    assert likeness(["asha", "devi"], ["devi", "asha"]) == 2
    assert likeness(["asha"], []) == 0


@pytest.mark.parametrize("data", ["names_given.csv", "names_last_token.csv"])
@pytest.mark.parametrize(("asked", "stored"), [("latin", "devanagari"), ("devanagari", "latin")])
def test_real_names_find_each_other_across_scripts(data: str, asked: str, stored: str) -> None:
    """Recall in the first ten among all names of the file, as `directory` ranks them."""
    pairs = rows(data)
    index = defaultdict(list)
    for row in pairs:
        index[sound_key(words(row[stored])[0])].append(row)
    found = right = shown = 0
    for row in pairs:
        typed = words(row[asked])
        candidates = index[sound_key(typed[0])]
        ranked = sorted(candidates, key=lambda each: -likeness(typed, words(each[stored])))[:10]
        same = [each[stored] == row[stored] or each[asked] == row[asked] for each in ranked]
        found, right, shown = found + any(same), right + sum(same), shown + len(same)
    recall, precision = found / len(pairs), right / shown
    print(f"{data}, {asked} typed: recall {recall:.3f}, precision {precision:.2f}")
    assert recall >= 0.97
    assert precision >= 0.4
