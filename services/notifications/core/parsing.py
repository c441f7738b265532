"""Reading what a provider sends: every field may be missing, of another type, or far too long. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

MAX_ID: Final = 256
MAX_TEXT: Final = 4096
MAX_WORD: Final = 64
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_AHEAD: Final = timedelta(days=1)
_PHONE: Final = re.compile(r"\+?[0-9]{6,15}", re.ASCII)


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object, most: int) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, up to `most`."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield from (each for each in value[:most] if isinstance(each, dict))


def text_of(value: object, most: int) -> str | None:
    """A text that is not empty and not longer than `most`; a whole number as its digits; else None."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        value = str(value)
    if not isinstance(value, str) or not value or len(value) > most:
        return None
    return value


def identifier(value: object) -> str | None:
    """An id: printable, without spaces at its ends, at most 256 characters."""
    found = text_of(value, MAX_ID)
    return found if found and found.isprintable() and found == found.strip() else None


def shortened(value: object) -> str | None:
    """A person's text, cut to 4,096 characters."""
    return value[:MAX_TEXT] if isinstance(value, str) and value else None


def word(value: object) -> str | None:
    """A provider's word, in lower case, if it is a word at all."""
    found = text_of(value, MAX_WORD)
    return found.lower() if found and found.replace("_", "").replace("-", "").isalnum() else None


def phone(value: object) -> str | None:
    """A number in its international form with `+` (E.164); None for what is none."""
    found = text_of(value, 17)
    if found is None or not _PHONE.fullmatch(found):
        return None
    return found if found.startswith("+") else f"+{found}"


def instant(value: object, otherwise: datetime, *, ahead: timedelta = _AHEAD) -> datetime:
    """A time in seconds since 1970, as a number or as its digits; `otherwise` if it is none, or one that
    cannot be: of before 2000, or further than `ahead` from `otherwise`."""
    found = text_of(value, 12)
    if found is None or not found.isdecimal():
        return otherwise
    at = datetime.fromtimestamp(int(found), UTC) if int(found) < 32503680000 else otherwise
    return at if _EARLIEST <= at <= otherwise + ahead else otherwise
