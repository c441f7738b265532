"""Text that people typed: cleaned once at the API, and split into words for search.

Unicode facts used here: general categories (UAX #44), NFC (UAX #15), and where a joiner changes what is seen
(UAX #31, 2.3, and The Unicode Standard, 12 and 13). Elsewhere two names that look the same would differ.
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

_ZWNJ, _ZWJ = "\u200c", "\u200d"
_JOINER = re.compile("[\u200c\u200d]")
_VIRAMA = 9
"""The canonical combining class of every virama, in Devanagari, Bengali, Malayalam, Sinhala and others."""
_JOINS_BOTH_SIDES = re.compile(
    "[\u0620\u0626\u0628\u062a-\u062e\u0633-\u0647\u0649-\u066f\u0678-\u0687\u069a-\u06bf\u06c1\u06c2\u06cc"
    "\u06ce\u06d0\u06d1\u06fa-\u0758\u075c-\u076a\u076d-\u0770\u0772\u0775-\u0777\u077a-\u077f\u0886"
    "\u0889-\u088d\u088f-\u08a9\u08af\u08b0\u08b3-\u08b8\u08ba-\u08c8]"
)
"""Arabic letters that are joined to the next one (Joining_Type D in ArabicShaping.txt of Unicode 18)."""
_ARABIC = re.compile("[\u0620-\u06ff\u0750-\u077f\u0870-\u08ff]")
_ZWJ_BEFORE_VIRAMA = re.compile("[\u0980-\u09ff\u0c80-\u0cff\u0d80-\u0dff]")
"""Bengali, Kannada and Sinhala: ZWJ and then the virama keep the first letter whole, as in Bengali rya."""

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
    marks, variation selectors (so emoji sequences fall apart into single emoji). Joiners stay only where they
    change the glyphs. ZWNJ: between two Arabic letters that would join, and between a virama and a letter.
    ZWJ: after a virama, unless a vowel sign follows, and before one in the scripts that write so.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = unicodedata.normalize("NFC", text.translate(_visible))
    # Dropping a joiner can reorder marks, which can orphan another joiner.
    while (shorter := unicodedata.normalize("NFC", _JOINER.sub(_useful_joiner, text))) != text:
        text = shorter
    return " ".join(text.split())


def _useful_joiner(match: re.Match[str]) -> str:
    text, at, joiner = match.string, match.start(), match[0]
    before, after = _beyond_marks(text, at, -1), _beyond_marks(text, at, 1)
    if unicodedata.combining(before) == _VIRAMA:
        useful = _is_letter(after) if joiner == _ZWNJ else unicodedata.category(after)[0] != "M"
    elif joiner == _ZWNJ:
        useful = bool(_JOINS_BOTH_SIDES.match(before) and _ARABIC.match(after)) and _is_letter(after)
    else:
        useful = bool(_ZWJ_BEFORE_VIRAMA.match(before)) and unicodedata.combining(after) == _VIRAMA
    return joiner if useful else ""


def _beyond_marks(text: str, at: int, step: int) -> str:
    """The next character that is no mark, or a virama; a space where the text ends."""
    at += step
    while 0 <= at < len(text) and unicodedata.combining(text[at]) not in (0, _VIRAMA):
        at += step
    return text[at] if 0 <= at < len(text) else " "


def _is_letter(char: str) -> bool:
    return unicodedata.category(char)[0] == "L"


def words(name: str) -> tuple[str, ...]:
    """The distinct words of a name, in order, for search by prefix.

    Words are case folded, compatibility forms are unified (NFKC) and joiners dropped. A word consists of
    letters, digits and marks, so the vowel signs of Devanagari stay with their consonant.
    `words("D'Souza आशा") == ("d", "souza", "आशा")`.
    """
    folded = _fold(_fold(_JOINER.sub("", clean(name))))
    spaced = "".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in folded)
    return tuple(dict.fromkeys(spaced.split()))


def searchable_words(name: str) -> tuple[str, ...]:
    """`words`, and the parts that ZWNJ separates: an Urdu compound is found by its second part too."""
    return tuple(dict.fromkeys((*words(name), *words(clean(name).replace(_ZWNJ, " ")))))


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
    if not any(map(_is_letter, text)):
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
