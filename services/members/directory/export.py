"""The rows of an export: CSV that a spreadsheet can open, or NDJSON; both can be imported again unchanged.

A cell that a spreadsheet would take for a formula gets an apostrophe in front (defusedcsv), which an import
takes away. CSV begins with a byte order mark, without which spreadsheets show Devanagari as gibberish.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from typing import Any, Final, TypeAlias

import orjson
from defusedcsv import csv as safe_csv

from services.members.core.domain import Contact, Member
from services.shared.contracts.vocabulary import Platform

Row: TypeAlias = tuple[Member, Contact | None]

PLATFORMS: Final = tuple(platform.value for platform in Platform)
COLUMNS: Final = (
    *("id", "name", "phone", "email", "unit", "gender", "language", "birth_year", *PLATFORMS),
    *("preferred_channel", "roles", "inviter_id", "reached_by", "joined_at", "status"),
)
"""A platform's column holds the member's handle there; `roles` is `coordinator@BR-GAYA; youth@BR`."""
BOM: Final = "\ufeff"
_LIKE_SAFE: Final = re.compile(r"'+(?:[=+@\-|%]|\\\|)")


def csv_header() -> bytes:
    return (BOM + _csv_lines([COLUMNS])).encode()


def csv_rows(rows: Iterable[Row]) -> bytes:
    return _csv_lines([_cells(*row) for row in rows]).encode()


def ndjson_rows(rows: Iterable[Row]) -> bytes:
    """One object per line, whose keys are the columns; null where a member has nothing."""
    lines = [dict(zip(COLUMNS, _cells(*row), strict=True)) for row in rows]
    return b"".join([orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines])


WRITERS: Final[dict[str, tuple[str, Callable[[], bytes], Callable[[Iterable[Row]], bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", csv_header, csv_rows),
    "ndjson": ("application/x-ndjson", bytes, ndjson_rows),
}
"""Media type, head and rows of each format."""


def _cells(member: Member, contact: Contact | None) -> tuple[Any, ...]:
    handles = contact.handles if contact else {}
    return (
        *(member.id, member.name, contact and (contact.phone or None), contact and contact.email),
        *(member.unit, member.gender, member.language, member.birth_year),
        *(handles.get(platform) for platform in PLATFORMS),
        member.preferred_channel,
        "; ".join(f"{each.role}@{each.unit}" for each in member.roles) or None,
        member.inviter_id,
        member.reached_by,
        member.joined_at.isoformat().replace("+00:00", "Z"),
        member.status,
    )


def _told_apart(cell: Any) -> Any:
    """A text that looks like one with an apostrophe in front gets a further one."""
    return f"'{cell}" if isinstance(cell, str) and _LIKE_SAFE.match(cell) else cell


def _csv_lines(rows: Sequence[Sequence[Any]]) -> str:
    text = StringIO()
    writer = safe_csv.writer(text, quoting=csv.QUOTE_MINIMAL)
    writer.writerows([[_told_apart(cell) for cell in row] for row in rows])
    return text.getvalue()
