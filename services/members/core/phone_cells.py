"""The numbers in a cell as people type them, in files of members and in rosters of chat groups. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumberType
from pydantic_core import PydanticCustomError

from services.members.core.phones import normalise
from services.shared.text import clean

SPREADSHEET: Final = "spreadsheet_number"
"""The reason for digits that a spreadsheet has rounded."""
UNREADABLE: Final = "phone"

_LONGEST: Final = 200
_MOST_PARTS: Final = 4
_SPREADSHEET: Final = re.compile(r"[+-]?[0-9](?:[.,][0-9]*)?\s*[eE]\s*\+?[0-9]{1,2}")
_PREFIX: Final = re.compile(
    r"(?:(?:tel|phone|ph|mob|mobile|m|मो|मोबाइल|फोन)(?:\s*no)?\s*[.:\-]+\s*)+", re.IGNORECASE
)
_SEPARATORS: Final = re.compile(r"[\s.()\[\]_\-\u2010-\u2015\u00b7]+")
_SEVERAL: Final = re.compile(r"[,/;|&\n]|\s(?:or|and|या|और)\s|\s{2,}")
_FLOAT: Final = re.compile(r"([0-9]{10,12})\.0+")
_MOBILE: Final = re.compile(r"(?:\+?0{0,2}91|0)?0?([6-9][0-9]{9})")
_MOBILES: Final = re.compile(rf"(?:(?:\+91|0)?[6-9][0-9]{{9}}){{2,{_MOST_PARTS}}}")
_ONE_OF_THEM: Final = re.compile(r"(?:\+91|0)?([6-9][0-9]{9})")


class UnreadablePhoneError(Exception):
    """A cell without a number. `reason` does not quote it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def numbers_in(cell: str) -> list[str]:
    """The numbers in E.164, each once, in the order of the cell; at least one.

    Raises: `UnreadablePhoneError`.
    """
    if len(cell) > _LONGEST:
        raise UnreadablePhoneError(UNREADABLE)
    text = ascii_digits(cell.lstrip("'\u2018\u2019`").strip())
    joined = _SEPARATORS.sub("", text)
    if mobile := _MOBILE.fullmatch(joined):
        return [f"+91{mobile[1]}"]
    if _MOBILES.fullmatch(joined):
        return list(dict.fromkeys(f"+91{number}" for number in _ONE_OF_THEM.findall(joined)))
    if _SPREADSHEET.fullmatch(text):
        raise UnreadablePhoneError(SPREADSHEET)
    text = _PREFIX.sub("", text)
    if whole := _FLOAT.fullmatch(text):
        text = whole[1]
    if (number := _number(text)) is not None:
        return [number]
    parts = [part for part in _SEVERAL.split(text) if part.strip()]
    if len(parts) == 1:
        parts = text.split()
    if not 1 < len(parts) <= _MOST_PARTS:  # of a bounded number: each may cost a look into large tables
        raise UnreadablePhoneError(UNREADABLE)
    numbers = [number for part in parts if (number := _number(part)) is not None]
    if not numbers:
        raise UnreadablePhoneError(UNREADABLE)
    return list(dict.fromkeys(numbers))


def ascii_digits(text: str) -> str:
    """The same text with the digits of any script as ASCII."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in clean(text))


def is_landline(number: str) -> bool:
    """Whether a number in E.164 is a landline's by libphonenumber's tables."""
    return phonenumbers.number_type(phonenumbers.parse(number)) == PhoneNumberType.FIXED_LINE


def _number(text: str) -> str | None:
    if mobile := _MOBILE.fullmatch(_SEPARATORS.sub("", text)):
        return f"+91{mobile[1]}"
    try:
        return normalise(text)
    except PydanticCustomError:
        return None
