"""Rows of an import, from CSV to units: all of it pure, and lazy up to the checks of the whole file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from services.groups.core.domain import Unit
from services.groups.core.errors import invalid_import
from services.groups.tree.fields import WomenTarget
from services.shared.contracts.vocabulary import UnitCode, UnitLevel, level_of, parent_of
from services.shared.errors import FieldError
from services.shared.text import Name, refuse
from services.shared.validation import field_error

MAX_IMPORT_ROWS: Final = 200_000
"""Twice the booths of the largest states. Lines are counted, the empty ones too: they take time as well."""
MAX_IMPORT_ERRORS: Final = 100
"""How many errors of a file are kept; the others are only counted."""
MAX_LINE_CHARS: Final = 65_536
SLICE_ROWS: Final = 250
SLICE_CHARS: Final = 65_536
"""A slice is checked in about 5 ms, or 20 ms if each of its rows is wrong."""
COLUMNS: Final = ("code", "level", "name_en", "name_hi", "women_target")


class CsvRow(NamedTuple):
    """The cells of a row, and the line that it ends on; the header is line 1."""

    line: int
    header: Sequence[str]
    cells: Sequence[str]


class Findings(list[FieldError]):
    """The first `MAX_IMPORT_ERRORS` errors of a file; `total` counts all."""

    total = 0

    def add(self, errors: Sequence[FieldError]) -> None:
        self.total += errors.total if isinstance(errors, Findings) else len(errors)
        self.extend(errors[: MAX_IMPORT_ERRORS - len(self)])


class CheckedRows(NamedTuple):
    """Sound units by their line, and what is wrong with the other rows."""

    units: Mapping[int, Unit]
    errors: Findings


class _Name(BaseModel):
    en: Name
    hi: Name


class _Row(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    code: UnitCode
    level: UnitLevel
    name: _Name
    women_target: WomenTarget = None

    @model_validator(mode="after")
    def _level_fits_code(self) -> Self:
        if level_of(self.code) is not self.level:
            raise refuse(f"a code of this depth is a {level_of(self.code)}")
        return self


def read_rows(content: bytes) -> Iterator[CsvRow]:
    """The rows that are not empty, one at a time, so that the text is never in memory as a whole.

    Raises: `UnicodeDecodeError`; `InvalidError` when the header is not ours, there are more than
    `MAX_IMPORT_ROWS` lines after it, a line is too long, or the text is no CSV.
    """
    reader = csv.reader(_lines(content), strict=True)
    try:
        header = tuple([name.strip() for name in next(reader, [])])
        if header not in (COLUMNS, COLUMNS[:-1]):
            raise invalid_import([FieldError("/rows/1", f"the header must be {','.join(COLUMNS)}")])
        for cells in reader:
            if any(cells):
                yield CsvRow(reader.line_num, header, cells)
    except csv.Error as error:
        raise invalid_import([FieldError(f"/rows/{reader.line_num}", f"not CSV: {error}")]) from error


def _lines(content: bytes) -> Iterator[str]:
    """The lines, none of them long: while the parser splits a line, no other thread runs."""
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    number = 0
    while line := text.readline(MAX_LINE_CHARS):
        number += 1
        if number > MAX_IMPORT_ROWS + 1:
            detail = f"there are more than {MAX_IMPORT_ROWS:,} lines: send the tree in parts, root first"
            raise invalid_import([FieldError("/rows", detail)])
        if len(line) == MAX_LINE_CHARS:
            detail = f"must have fewer than {MAX_LINE_CHARS:,} characters"
            raise invalid_import([FieldError(f"/rows/{number}", detail)])
        yield line


def next_rows(rows: Iterator[CsvRow]) -> Iterator[CsvRow]:
    """A slice of the rows: the next `SLICE_ROWS`, or fewer with more than `SLICE_CHARS`."""
    chars = 0
    for row in islice(rows, SLICE_ROWS):
        yield row
        chars += sum(map(len, row.cells))
        if chars > SLICE_CHARS:
            break


def check_rows(rows: Iterable[CsvRow]) -> CheckedRows:
    """Check each row by itself: a chunk of a large file can be checked apart, in a thread."""
    units: dict[int, Unit] = {}
    errors = Findings()
    for row in rows:
        try:
            units[row.line] = _unit(row)
        except _InvalidRowError as invalid:
            errors.add(invalid.errors)
    return CheckedRows(units, errors)


def parents_outside(codes: Mapping[int, str]) -> set[str]:
    """Parents that the rows name and do not contain: the tree must. `codes` are the units' by their line."""
    known = set(codes.values())
    return {parent for code in known if (parent := parent_of(code)) and parent not in known}


def check_file(
    codes: Mapping[int, str], can_access: Callable[[str], bool], missing_parents: Collection[str]
) -> Findings:
    """Check all rows together. `missing_parents` are neither in the file nor in the tree."""
    last_line = {code: line for line, code in codes.items()}
    errors = Findings()
    for line, code in codes.items():
        pointer = f"/rows/{line}/code"
        if last_line[code] != line:
            errors.add([FieldError(pointer, "appears twice")])
        if not can_access(code):  # and nothing is told of its parent, which may be outside too
            errors.add([FieldError(pointer, "is outside your units")])
        elif parent_of(code) in missing_parents:
            errors.add([FieldError(pointer, "its parent is neither in this file nor in the tree")])
    return errors


class _InvalidRowError(Exception):
    def __init__(self, *errors: FieldError) -> None:
        super().__init__()
        self.errors = errors


def _unit(row: CsvRow) -> Unit:
    """Raises: `_InvalidRowError`."""
    if len(row.cells) != len(row.header):
        detail = f"has {len(row.cells)} fields, the header {len(row.header)}"
        raise _InvalidRowError(FieldError(f"/rows/{row.line}", detail))
    cell = dict(zip(row.header, (text.strip() for text in row.cells), strict=True))
    try:
        valid = _Row.model_validate(
            {
                "code": cell["code"],
                "level": cell["level"],
                "name": {"en": cell["name_en"], "hi": cell["name_hi"]},
                "women_target": cell.get("women_target") or None,
            }
        )
    except ValidationError as error:
        found = [
            field_error({**each, "loc": ("body", *each["loc"])}) for each in error.errors(include_url=False)
        ]
        raise _InvalidRowError(
            *[FieldError(f"/rows/{row.line}{each.pointer}", each.detail) for each in found]
        ) from error
    return Unit(
        code=valid.code,
        level=valid.level.value,
        parent=parent_of(valid.code),
        name=dict(valid.name),
        women_target=valid.women_target,
    )
