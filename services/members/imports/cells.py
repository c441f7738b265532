"""Cells as people type them become a draft of a member, or the reason why the row is refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from services.members.core.phone_cells import UnreadablePhoneError, ascii_digits, is_landline, numbers_in
from services.members.core.schemas import Email, Label, MemberId
from services.members.imports.legacy_fonts import is_legacy
from services.members.imports.reading import JsonKind
from services.shared.contracts.vocabulary import Channel, Gender, Language, Platform, UnitCode
from services.shared.text import Name, clean

PLATFORMS: Final[tuple[str, ...]] = tuple(platform.value for platform in Platform)

_NAME: Final = TypeAdapter(Name)
_EMAIL: Final = TypeAdapter(Email)
_HANDLE: Final = TypeAdapter(Label)
_UNIT: Final = TypeAdapter(UnitCode)
_ID: Final = TypeAdapter(MemberId)

_KINDS: Final[Mapping[str, JsonKind]] = {"consent": "boolean", "platforms": "handles"}
"""The kinds that a cell of JSON may have beside text and number, by field."""
SECOND_NUMBER: Final = "second_number"
CONSENT_BLANK: Final = "consent_blank"
_YEAR: Final = re.compile(r"(?<![0-9])((?:19|20)[0-9]{2})(?![0-9])")
_FORMULA: Final = "=+@-|%"
"""A cell that begins with one of these is a formula to some spreadsheet."""
_ESCAPED: Final = re.compile(r"'(?:[=+@\-|%]|\\\|)")
"""A formula as an export writes it: after an apostrophe, and with a backslash before each bar."""
_TOLD_APART: Final = re.compile(rf"'+{_ESCAPED.pattern}")
"""A text that looks like one, which has a further apostrophe."""


def _by_word(typed: Mapping[str, str]) -> dict[str, str]:
    """From the words that people type for each value to the value of each word."""
    return {word: value for value, words in typed.items() for word in words.split()}


_GENDERS: Final = _by_word(
    {
        Gender.FEMALE.value: "f female w woman women lady girl महिला स्त्री औरत म. फीमेल mahila stri",
        Gender.MALE.value: "m male man boy पुरुष पु पु. पुरूष मेल purush",
        Gender.OTHER.value: "o other others t transgender trans third अन्य तृतीय किन्नर ट्रांसजेंडर anya",
        Gender.UNDISCLOSED.value: "undisclosed unknown na n/a - नहीं",
    }
)
_LANGUAGES: Final = _by_word(
    {
        Language.HINDI.value: "hi hindi हिन्दी हिंदी",
        Language.ENGLISH.value: "en english अंग्रेजी अंग्रेज़ी इंग्लिश",
        Language.URDU.value: "ur urdu उर्दू اردو",
        Language.BHOJPURI.value: "bho bhojpuri भोजपुरी",
        Language.MAITHILI.value: "mai maithili मैथिली",
        Language.MAGAHI.value: "mag magahi मगही",
    }
)
_CHANNELS: Final = _by_word(
    {
        Channel.WHATSAPP.value: "whatsapp wa व्हाट्सएप व्हाट्सऐप वाट्सएप",
        Channel.SMS.value: "sms text एसएमएस मैसेज संदेश",
        Channel.EMAIL.value: "email e-mail mail ईमेल ई-मेल मेल",
    }
)
_YES_WORDS: Final = "y yes true 1 given agreed ok haan ha han हाँ हां हा जी सहमत ✓ ✔"
_NO_WORDS: Final = "n no false 0 nahin nahi नहीं नही ना असहमत ✗ ✘ x -"
_YES: Final = frozenset(_YES_WORDS.split())
_NO: Final = frozenset(_NO_WORDS.split())


class RefusedError(Exception):
    """A row that cannot be used. `reason` is a word of the plan; neither it nor `column` quotes the cell."""

    def __init__(self, reason: str, column: str) -> None:
        super().__init__(reason, column)
        self.reason = reason
        self.column = column


@dataclass(frozen=True, slots=True)
class Draft:
    """A row as it is meant: only fields whose cell was filled in, and handles by platform.

    `consent` is what the row's own column says, None without one; a blank cell is a no, because nobody gave
    that answer. `notes` are words for the plan about what was left out. `numbers` are all those of the
    phone's cell, of which the first is the phone. `legacy`: the name was typed in a font from before Unicode.
    """

    values: Mapping[str, Any]
    handles: Mapping[str, str] = field(default_factory=dict)
    consent: bool | None = None
    notes: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    legacy: bool = False


def draft(
    fields: Sequence[str | None],
    cells: Sequence[str],
    kinds: Mapping[int, JsonKind] = MappingProxyType({}),
    *,
    spreadsheet: bool = True,
) -> Draft:
    """The draft of one row, whose cells belong to `fields`; `kinds` are as in `Row`. Without `spreadsheet` no
    cell is taken for a formula, or for text that an apostrophe keeps from being one.

    Raises: `RefusedError`.
    """
    values: dict[str, Any] = {}
    handles: dict[str, str] = {}
    notes: list[str] = []
    numbers: tuple[str, ...] = ()
    consent, answered = (False if "consent" in fields else None), False
    for at, kind in kinds.items():
        if (field_ := fields[at]) is not None and kind != _KINDS.get(field_):
            raise RefusedError(field_, field_)
    for name, cell in zip(fields, cells, strict=False):
        text = cell.strip()
        if name is None or not text:
            continue
        if spreadsheet:
            if name == "name" and text[0] in _FORMULA:
                raise RefusedError("formula", "name")
            text = _unescaped(text)
        if name == "phone":
            numbers = phones(text)
            values["phone"] = numbers[0]
            notes += [SECOND_NUMBER] if len(numbers) > 1 else []
        elif name == "platforms":
            handles |= _handles(text)
        elif name == "consent":
            consent, answered = _consent(text), True
        elif name in PLATFORMS:
            handles[name] = _valid(_HANDLE, name, text)
        else:
            values[name] = _READERS[name](text)
    ordered = {platform: handles[platform] for platform in PLATFORMS if platform in handles}
    if consent is False and not answered:
        notes.append(CONSENT_BLANK)
    legacy = is_legacy(values.get("name", ""))
    return Draft(values, ordered, consent, tuple(notes), numbers, legacy)


def phones(cell: str) -> tuple[str, ...]:
    """The numbers of a cell in E.164, at least one; those of landlines come last.

    Raises: `RefusedError`: `spreadsheet_number` for digits that a spreadsheet has rounded, `phone` otherwise.
    """
    try:
        numbers = numbers_in(cell)
    except UnreadablePhoneError as unreadable:
        raise RefusedError(unreadable.reason, "phone") from None
    return tuple(sorted(numbers, key=is_landline)) if len(numbers) > 1 else tuple(numbers)


def _unescaped(text: str) -> str:
    """The cell without what an export put there to keep a spreadsheet from running a formula."""
    if _TOLD_APART.match(text):
        return text[1:]
    return text[1:].replace("\\|", "|") if _ESCAPED.match(text) else text


def _name(cell: str) -> str:
    name: str = _valid(_NAME, "name", cell)
    return name


def _unit(cell: str) -> str:
    unit: str = _valid(_UNIT, "unit", cell.upper())
    return unit


def _gender(cell: str) -> str:
    return _word(_GENDERS, "gender", cell)


def _language(cell: str) -> str:
    return _word(_LANGUAGES, "language", cell)


def _channel(cell: str) -> str:
    return _word(_CHANNELS, "preferred_channel", cell)


def _word(words: Mapping[str, str], name: str, cell: str) -> str:
    word = clean(cell).casefold()
    if (found := words.get(word)) is not None:
        return found
    if word in words.values():
        return word
    raise RefusedError(name, name)


def _birth_year(cell: str) -> int:
    """The year of a year or of a date that has it in four digits."""
    years = set(_YEAR.findall(ascii_digits(cell)))
    if len(years) != 1:
        raise RefusedError("birth_year", "birth_year")
    return int(years.pop())


def _handles(cell: str) -> dict[str, str]:
    """`whatsapp:asha; x:asha_d`."""
    found = {}
    for pair in filter(None, map(str.strip, cell.split(";"))):
        platform, _, handle = (part.strip() for part in pair.partition(":"))
        if platform.lower() not in PLATFORMS or not handle:
            raise RefusedError("platforms", "platforms")
        found[platform.lower()] = _valid(_HANDLE, "platforms", handle)
    return found


def _consent(cell: str) -> bool:
    word = clean(cell).casefold()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise RefusedError("consent", "consent")


def _valid(kind: TypeAdapter[Any], column: str, cell: str) -> Any:
    try:
        return kind.validate_python(cell)
    except ValidationError:
        raise RefusedError(column, column) from None


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "id": lambda cell: _valid(_ID, "id", cell),
    "name": _name,
    "unit": lru_cache(4096)(_unit),
    "gender": _gender,
    "language": _language,
    "email": lambda cell: _valid(_EMAIL, "email", cell),
    "birth_year": _birth_year,
    "preferred_channel": _channel,
    "inviter_id": lambda cell: _valid(_ID, "inviter_id", cell),
    "reached_by": lambda cell: _valid(_ID, "reached_by", cell),
}
