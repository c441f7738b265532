"""The units of a file while it is checked and until they are written: lines of JSON, because 200,000 units as
objects take four times the memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import orjson

from services.groups.core.domain import Unit
from services.groups.core.levels import SHIPPED
from services.groups.core.store import UNITS
from services.groups.tree.csv_rows import (
    CsvRow,
    Findings,
    Succession,
    check_file,
    check_rows,
    next_rows,
    parents_outside,
)
from services.groups.tree.domain import parents_first


class CheckedFile:
    """Units by their line, and errors, found in the rows so far."""

    def __init__(self, rows: Iterator[CsvRow], levels: Sequence[str] = SHIPPED) -> None:
        self._rows = rows
        self._levels = levels
        self._codes: dict[int, str] = {}
        self.successions: dict[int, Succession] = {}
        self._units: list[bytes] = []
        self.errors = Findings()

    @property
    def is_empty(self) -> bool:
        return not (self._codes or self.errors)

    def check_next(self) -> bool:
        """Check a slice of the rows by themselves; False at the end. Raises: as `read_rows`."""
        units, errors, successions = check_rows(next_rows(self._rows), self._levels)
        self.successions |= successions
        self.errors.add(errors)
        for line, unit in units.items():
            self._codes[line] = unit.code
            self._units.append(unit_line(unit))
        return bool(units or errors)

    @property
    def codes(self) -> Mapping[int, str]:
        """The codes of the sound rows by their line."""
        return self._codes

    def parents_outside(self) -> set[str]:
        """Parents that the rows name and do not contain: the tree must."""
        return parents_outside(self._codes)

    def check_together(
        self,
        can_access: Callable[[str], bool],
        missing_parents: Collection[str],
        retired: Collection[str] = (),
    ) -> None:
        self.errors.add(check_file(self._codes, can_access, missing_parents, retired))

    def parents_first(self) -> list[bytes]:
        """The units' lines in the order of writing."""
        return [self._units[n] for n in parents_first(list(self._codes.values()))]


def unit_line(unit: Unit) -> bytes:
    return orjson.dumps(UNITS.encode(unit)) + b"\n"  # a copy: what orjson returns occupies a kilobyte


def unit_of_line(line: bytes) -> Unit:
    return UNITS.decode(orjson.loads(line))
