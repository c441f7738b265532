"""Rows of an import, from CSV to units: all of it pure, and lazy up to the checks of the whole file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from services.groups.core.domain import Unit
from services.groups.core.errors import invalid_import
from services.groups.core.levels import SHIPPED, LevelWord
from services.groups.tree.domain import AS_KNOWN
from services.groups.tree.fields import WomenTarget
from services.groups.tree.levels import level_of
from services.shared.contracts.groups import MAX_SUCCESSORS
from services.shared.contracts.vocabulary import Constituency, UnitCode, parent_of
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
PLACE_COLUMNS: Final = ("ac_no", "ac_name_en", "ac_name_hi")
"""The assembly constituency; a file without them leaves it as it is known."""
SUCCESSION_COLUMNS: Final = ("predecessor", "successor")
"""Columns of a comparison only. Several codes are separated by spaces."""


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


class Succession(NamedTuple):
    """The codes that a row names as predecessors, or as successors: then it is of a unit that goes."""

    predecessors: tuple[str, ...] = ()
    successors: tuple[str, ...] = ()


class CheckedRows(NamedTuple):
    """Sound units by their line, and what is wrong with the other rows. `successions` of those that have
    any."""

    units: Mapping[int, Unit]
    errors: Findings
    successions: Mapping[int, Succession]


class _Name(BaseModel):
    en: Name
    hi: Name


def _code(value: object) -> object:
    """Say what is wrong with a code that looks like a right one."""
    if isinstance(value, str) and not value.isascii():
        raise refuse("has characters that may look like capital letters A-Z and digits, but are others")
    if isinstance(value, str) and value != value.upper():
        raise refuse("must be in capital letters: codes that differ only in case are one too many")
    return value


_Code = Annotated[UnitCode, BeforeValidator(_code)]
_Codes = Annotated[tuple[_Code, ...], Field(max_length=MAX_SUCCESSORS)]


class _Row(BaseModel):
    """`level` and `name` are not asked of a unit that goes."""

    model_config = ConfigDict(hide_input_in_errors=True)

    code: _Code
    level: LevelWord
    name: _Name
    women_target: WomenTarget = None
    ac_no: Constituency | None = None
    ac_name: _Name | None = None
    predecessor: _Codes = ()

    @model_validator(mode="after")
    def _level_fits_code(self, info: ValidationInfo) -> Self:
        level = level_of(self.code, info.context or SHIPPED)
        if level is None:
            raise refuse("the tree has no level of that depth")
        if level != self.level:
            raise refuse(f"a code of this depth is a {level}")
        return self


class _Gone(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    code: _Code
    successor: _Codes


def read_rows(content: bytes, *, successions: bool = False) -> Iterator[CsvRow]:
    """The rows that are not empty, one at a time, so that the text is never in memory as a whole.
    `successions`: the header may have the columns of a comparison.

    Raises: `UnicodeDecodeError`; `InvalidError` when the header is not ours, there are more than
    `MAX_IMPORT_ROWS` lines after it, a line is too long, or the text is no CSV.
    """
    reader = csv.reader(_lines(content), strict=True)
    try:
        header = tuple([name.strip() for name in next(reader, [])])
        if not _is_header(header, successions):
            raise invalid_import([FieldError("/rows/1", f"the header must be {_header(successions)}")])
        for cells in reader:
            if any(cells):
                yield CsvRow(reader.line_num, header, cells)
    except csv.Error as error:
        raise invalid_import([FieldError(f"/rows/{reader.line_num}", f"not CSV: {error}")]) from error


def _is_header(header: Sequence[str], successions: bool) -> bool:
    """The columns of every file first, the optional ones after them, each once."""
    if tuple(header[: len(COLUMNS)]) != COLUMNS:
        return tuple(header) == COLUMNS[:-1]
    more = header[len(COLUMNS) :]
    known = {*PLACE_COLUMNS, *(SUCCESSION_COLUMNS if successions else ())}
    return len(set(more)) == len(more) and set(more) <= known


def _header(successions: bool) -> str:
    more = [*PLACE_COLUMNS, *(SUCCESSION_COLUMNS if successions else ())]
    return f"{','.join(COLUMNS)}, and after it any of {','.join(more)}"


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


def check_rows(rows: Iterable[CsvRow], levels: Sequence[str] = SHIPPED) -> CheckedRows:
    """Check each row by itself: a chunk of a large file can be checked apart, in a thread. `levels` are the
    tree's, from the root."""
    units: dict[int, Unit] = {}
    successions: dict[int, Succession] = {}
    errors = Findings()
    for row in rows:
        try:
            units[row.line], succession = _unit(row, levels)
        except _InvalidRowError as invalid:
            errors.add(invalid.errors)
        else:
            if any(succession):
                successions[row.line] = succession
    return CheckedRows(units, errors, successions)


def parents_outside(codes: Mapping[int, str]) -> set[str]:
    """Parents that the rows name and do not contain: the tree must. `codes` are the units' by their line."""
    known = set(codes.values())
    return {parent for code in known if (parent := parent_of(code)) and parent not in known}


def check_file(
    codes: Mapping[int, str],
    can_access: Callable[[str], bool],
    missing_parents: Collection[str],
    retired: Collection[str] = (),
) -> Findings:
    """Check all rows together. `missing_parents` are neither in the file nor in the tree; `retired` are codes
    that were used once."""
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
        elif code in retired:
            errors.add([FieldError(pointer, "was a unit's that is retired: a code is never used again")])
    return errors


class _InvalidRowError(Exception):
    def __init__(self, *errors: FieldError) -> None:
        super().__init__()
        self.errors = errors


def _unit(row: CsvRow, levels: Sequence[str]) -> tuple[Unit, Succession]:
    """Raises: `_InvalidRowError`."""
    if len(row.cells) != len(row.header):
        detail = f"has {len(row.cells)} fields, the header {len(row.header)}"
        raise _InvalidRowError(FieldError(f"/rows/{row.line}", detail))
    cell = dict(zip(row.header, (text.strip() for text in row.cells), strict=True))
    try:
        if successors := cell.get("successor", "").split():
            gone = _Gone.model_validate({"code": cell["code"], "successor": successors})
            unit = Unit(gone.code, cell["level"], parent_of(gone.code), {})
            return unit, Succession(successors=gone.successor)
        valid = _Row.model_validate(_fields(cell), context=levels)
    except ValidationError as error:
        found = [
            field_error({**each, "loc": ("body", *each["loc"])}) for each in error.errors(include_url=False)
        ]
        raise _InvalidRowError(
            *[FieldError(f"/rows/{row.line}{each.pointer}", each.detail) for each in found]
        ) from error
    unit = Unit(
        code=valid.code,
        level=valid.level,
        parent=parent_of(valid.code),
        name=dict(valid.name),
        women_target=valid.women_target,
        constituency=valid.ac_no if "ac_no" in row.header else AS_KNOWN,
        constituency_name=dict(valid.ac_name) if valid.ac_name else None,
    )
    return unit, Succession(predecessors=valid.predecessor)


def _fields(cell: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "code": cell["code"],
        "level": cell["level"],
        "name": {"en": cell["name_en"], "hi": cell["name_hi"]},
        "women_target": cell.get("women_target") or None,
        "ac_no": cell.get("ac_no") or None,
        "predecessor": cell.get("predecessor", "").split(),
    }
    if cell.get("ac_name_en") or cell.get("ac_name_hi"):
        fields["ac_name"] = {"en": cell.get("ac_name_en", ""), "hi": cell.get("ac_name_hi", "")}
    return fields
