"""Reading a roster: ids of members and numbers, in whatever form a phone's contact list or a spreadsheet
gives them. Pure.

Only what looks like a number leaves this module: names and all other text stay behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.shared.contracts.vocabulary import UUID
from services.shared.text import clean

MAX_ENTRIES: Final = 20_000
MAX_LINE: Final = 2_000
MAX_NUMBER: Final = 60
_ID: Final = re.compile(rf"(?<![0-9a-f-]){UUID}(?![0-9a-f-])", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\(?\+?\(?\d[\d\s().\-]{6,56}\d")
"""A run of digits as people space them; letters, commas, semicolons and slashes part two numbers."""
_MIN_DIGITS: Final = 8
_NO_NUMBER: Final = re.compile(r"(?!TEL\b|item\d+\.TEL\b)[A-Z-]+(?:;[^:]*)?:", re.IGNORECASE)
"""Lines of a vCard (RFC 6350) without a number; their values may hold digits, such as an address."""


@dataclass(frozen=True, slots=True)
class Entries:
    """`ids` and `numbers`, each once, in order; `unreadable` counts lines with neither, but for a heading."""

    ids: tuple[str, ...]
    numbers: tuple[str, ...]
    unreadable: int

    def __len__(self) -> int:
        return len(self.ids) + len(self.numbers)


def decode(content: bytes) -> str:
    """UTF-8, or UTF-16 as spreadsheets and some phones write it with a mark.

    Raises: `UnicodeDecodeError`.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def read(lines: Iterable[str], *, vcard: bool = False) -> Entries:
    """The entries of lines of text, CSV or vCard."""
    ids: dict[str, None] = {}
    numbers: dict[str, str] = {}
    unreadable = 0
    for n, line in enumerate(lines):
        text = _ascii_digits(line[:MAX_LINE])
        if not text.strip():
            continue
        if vcard and _NO_NUMBER.match(text.strip()):
            continue
        found = [match[0].lower() for match in _ID.finditer(text)]
        ids |= dict.fromkeys(found)
        rest = _ID.sub(" ", text)
        several = [number for number in map(str.strip, _NUMBER.findall(rest)) if _digits(number)]
        for number in several:
            numbers.setdefault(_digits(number), number[:MAX_NUMBER])
        if not found and not several and n > 0:
            unreadable += 1
    return Entries(tuple(ids), tuple(numbers.values()), unreadable)


def _digits(number: str) -> str:
    digits = "".join(char for char in number if char.isdigit())
    return digits if len(digits) >= _MIN_DIGITS else ""


def _ascii_digits(text: str) -> str:
    if text.isascii():
        return text
    kept = "\t".join(clean(part) for part in text.split("\t"))
    return "".join(_digit(char) for char in kept)


def _digit(char: str) -> str:
    return str(int(char)) if char.isdecimal() else char
