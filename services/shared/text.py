"""Text that people typed: cleaned once at the API, and split into words for search.

Unicode facts used here: general categories (UAX #44), NFC (UAX #15), and the joiners of Indic scripts: after
a virama, ZWJ selects the half form and ZWNJ a visible virama (The Unicode Standard, 12.1).
"""

from __future__ import annotations

import re
import unicodedata
from itertools import chain
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

REFUSED = "refused"
"""The error type of this project's field rules. Their messages never contain the input, so answers may quote
them."""

_VIRAMA, _ZWNJ, _ZWJ = "\u094d", "\u200c", "\u200d"
_JOINER = re.compile("[\u200c\u200d]")
_CONSONANT = re.compile("[\u0915-\u0939\u0958-\u095f\u0978-\u097f]")

# Invisible characters whose category says letter, mark or symbol: fillers, selectors, blanks.
_INVISIBLE = frozenset(
    chain(
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
)
_STRIPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
_REMEMBERED = 0x3000  # bounds the cache: a caller may send every character of Unicode


class _Visible(dict[int, int | None]):
    """A `str.translate` table: None strips a character; joiners are kept for now. It caches the scripts in
    daily use."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        keep = (
            char.isspace()
            or char in (_ZWJ, _ZWNJ)
            or (code not in _INVISIBLE and unicodedata.category(char) not in _STRIPPED_CATEGORIES)
        )
        verdict = code if keep else None
        if code < _REMEMBERED:
            self[code] = verdict
        return verdict


_visible = _Visible()


def clean(text: str) -> str:
    """Normalise to NFC, without invisible characters, with single spaces and none at either end. Idempotent.

    Stripped: control, format and bidi characters, private use, surrogates, unassigned code points, byte order
    marks, variation selectors (so emoji sequences fall apart into single emoji). ZWJ stays after a Devanagari
    virama, and ZWNJ stays between a virama and a consonant: only there do they change the glyph.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = unicodedata.normalize("NFC", text.translate(_visible))
    # Dropping a joiner can reorder marks, which can orphan another joiner.
    while (shorter := unicodedata.normalize("NFC", _JOINER.sub(_useful_joiner, text))) != text:
        text = shorter
    return " ".join(text.split())


def _useful_joiner(match: re.Match[str]) -> str:
    text, at = match.string, match.start()
    if at == 0 or text[at - 1] != _VIRAMA:
        return ""
    if match[0] == _ZWJ or _CONSONANT.match(text, at + 1):
        return match[0]
    return ""


def words(name: str) -> tuple[str, ...]:
    """The distinct words of a name, in order, for search by prefix.

    Words are case folded, compatibility forms are unified (NFKC) and joiners dropped. A word consists of
    letters, digits and marks, so the vowel signs of Devanagari stay with their consonant.
    `words("D'Souza आशा") == ("d", "souza", "आशा")`.
    """
    folded = _fold(_fold(_JOINER.sub("", clean(name))))
    spaced = "".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in folded)
    return tuple(dict.fromkeys(spaced.split()))


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text.casefold())


def refuse(why: str) -> PydanticCustomError:
    """An error for a field rule. The caller sees `why`, so it must not contain the input."""
    return PydanticCustomError(REFUSED, why)


def _cleaned(limit: int) -> Any:
    """Clean a string and limit it to `limit` characters; pydantic refuses other types."""

    def before(value: object) -> object:
        if not isinstance(value, str):
            return value
        # Check the length before cleaning, so that a megabyte of invisible characters costs nothing.
        if len(value) > 4 * limit or len(text := clean(value)) > limit:
            raise refuse(f"must have at most {limit} characters")
        if not text:
            raise refuse("must not be empty")
        return text

    return BeforeValidator(before)


def _lettered(text: str) -> str:
    if not any(unicodedata.category(char)[0] == "L" for char in text):
        raise refuse("must contain a letter")
    return text


NAME_LIMIT = 200
SHORT_TEXT_LIMIT = 500

Name = Annotated[
    str,
    AfterValidator(_lettered),
    _cleaned(NAME_LIMIT),
    Strict(),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": NAME_LIMIT}),
]
"""A name of a person or a thing: 1 to 200 characters once cleaned, at least one of them a letter."""

ShortText = Annotated[
    str,
    _cleaned(SHORT_TEXT_LIMIT),
    Strict(),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": SHORT_TEXT_LIMIT}),
]
"""A line or two: 1 to 500 characters once cleaned."""
