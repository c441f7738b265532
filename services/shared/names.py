"""Names across scripts: how a word of a name sounds, so that "Shrivastav" and "श्रीवास्तव" find each other.

A word is written in plain Latin letters (`latin`) and reduced to a key (`sound_key`), by which an index finds
what may be meant. Keys are coarse: other names have the same, so what they find is ranked by `likeness`. A
word of a script that is not romanised here, such as Urdu's, is its own key. Names of people and of places
alike.

Pure. Romanisation is that of indic-transliteration (IAST), with the spellings that people use for it. Whoever
changes what a key is also raises `RULES` of whatever keeps keys: they are then made anew.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from indic_transliteration import sanscript
from rapidfuzz.distance import JaroWinkler
from rapidfuzz.fuzz import ratio

_REMEMBERED: Final = 32_768
"""Words whose spelling and keys are kept: given names and surnames repeat."""
_LETTERS: Final = 40
"""Letters of a word that count."""

_BLOCKS: Final = {
    0x0900: sanscript.DEVANAGARI,
    0x0980: sanscript.BENGALI,
    0x0A00: sanscript.GURMUKHI,
    0x0A80: sanscript.GUJARATI,
    0x0B00: sanscript.ORIYA,
    0x0B80: sanscript.TAMIL,
    0x0C00: sanscript.TELUGU,
    0x0C80: sanscript.KANNADA,
    0x0D00: sanscript.MALAYALAM,
}
"""Scripts by the first code point of their block of 128 (The Unicode Standard, 12)."""

# What IAST has no sign for, or what is not said as it is written. Applied to text in NFD.
_DEVANAGARI: Final = (
    ("\u0921\u093c", "\u0930"),  # ra as in सड़क, written r
    ("\u0922\u093c", "\u0930\u094d\u0939"),  # rha as in गढ़
    ("\u0901", "\u0902"),
    ("\u0911", "\u0913"),  # the o of डॉली and ऑ
    ("\u0949", "\u094b"),
    ("\u0945", "\u0947"),  # the e of कॅप्टन
    ("\u200c", ""),
    ("\u200d", ""),
)
_NUKTA: Final = 7
"""The canonical combining class of the dot that makes za of ja, in every script."""
_SINGH: Final = re.compile("\u0902\u0939$")
"""As in सिंह, which is said and written Singh."""
_IAST: Final = re.compile("jñ|ch|c|[śṣ]|[ṛṝ]|ṃ")
_SPELT: Final = {"jñ": "gy", "ch": "chh", "c": "ch", "ś": "sh", "ṣ": "sh", "ṛ": "ri", "ṝ": "ri", "ṃ": "n"}
_FOLDED: Final = (
    ("aa", "a"),
    ("ee", "i"),
    ("oo", "u"),
    ("ph", "f"),
    ("w", "v"),
    ("q", "k"),
    ("x", "ksh"),
    ("z", "j"),
    ("ck", "k"),
)
_OW: Final = re.compile("ow(?=[^aeiou])")
"""As in Chowdhury."""
_SOFT_C: Final = re.compile("c(?=[eiy])")
_HARD_C: Final = re.compile("c(?!h)")
_BEFORE_LIP: Final = re.compile("n(?=[pbmf])")
_TWICE: Final = re.compile(r"(.)\1+")
_SCHWA: Final = re.compile("(?<=[^aeiou])a$")

_NOT_FIRST: Final = re.compile("(?<=.)[hy]")
_VOWELS: Final = re.compile("[aeiou]+")
_FIRST_VOWEL: Final = re.compile("^[aeiou]+")
_SAME_SOUND: Final = str.maketrans("fvm", "pbn")


@lru_cache(_REMEMBERED)
def latin(word: str) -> str:
    """The word in small Latin letters, as it would be spelt for its sound: `श्रीवास्तव` is `shrivastav`, and
    so is `Shreewastav`. A word of another script stays as it is."""
    text = unicodedata.normalize("NFD", word[:_LETTERS].casefold())
    script = _BLOCKS.get(ord(text[0]) & ~0x7F) if text else None
    if script is not None:
        text = _romanised(text, script)
    text = _OW.sub("au", _without_marks(text))
    for written, meant in _FOLDED:
        text = text.replace(written, meant)
    text = _HARD_C.sub("k", _SOFT_C.sub("s", text))
    return _TWICE.sub(r"\1", _BEFORE_LIP.sub("m", text))


@lru_cache(_REMEMBERED)
def sound_key(word: str) -> str:
    """The consonants of a word, without breath and voice that are often misheard, and `A` for a vowel that it
    begins with: `srbstb` for `श्रीवास्तव`."""
    text = (latin(word) or word).replace("ch", "c").replace("sh", "s")
    text = "j" + text[1:] if text.startswith("y") else text  # Yadav and Jadav, Yamuna and Jamuna
    text = _FIRST_VOWEL.sub("A", _NOT_FIRST.sub("", text).translate(_SAME_SOUND))
    return _TWICE.sub(r"\1", _VOWELS.sub("", text))


def likeness(asked: Sequence[str], words: Sequence[str]) -> float:
    """How well a name's words answer those asked for, from 0 to 2: the best match of each, on average.

    The same word counts 2, one that begins with it more than 1, any other at most 1: how alike the two are
    when spelt in Latin letters.
    """
    return sum(max((_alike(one, word) for word in words), default=0.0) for one in asked) / len(asked)


def begins(asked: Sequence[str], words: Sequence[str]) -> bool:
    """Whether each word asked for is the beginning of one of a name's words."""
    return all(any(word.startswith(one) for word in words) for one in asked)


def _alike(asked: str, word: str) -> float:
    if word.startswith(asked):
        return 1 + len(asked) / len(word)
    return spelt_alike(asked, word)


def spelt_alike(word: str, other: str) -> float:
    """How alike two words are when spelt in Latin letters, from 0 to 1."""
    one, other = latin(word), latin(other)
    return (ratio(one, other) / 10 + JaroWinkler.similarity(one, other)) / 11


def _romanised(text: str, script: str) -> str:
    if script == sanscript.DEVANAGARI:
        for written, said in _DEVANAGARI:
            text = text.replace(written, said)
        text = _SINGH.sub("\u0902\u0918", text)
    text = "".join([char for char in text if unicodedata.combining(char) != _NUKTA])
    romanised = sanscript.transliterate(unicodedata.normalize("NFC", text), script, sanscript.IAST)
    spelt = _IAST.sub(lambda found: _SPELT[found[0]], unicodedata.normalize("NFC", romanised))
    return _SCHWA.sub("", _without_marks(unicodedata.normalize("NFD", spelt)))


def _without_marks(text: str) -> str:
    """Text without accents and dots on Latin letters; the vowel signs of other scripts stay."""
    return "".join([char for char in text if not 0x0300 <= ord(char) < 0x0370])
