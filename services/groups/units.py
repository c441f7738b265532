"""The tree of units: one at a time, or a whole tree from CSV, all of it or nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from services.groups.domain import chunks
from services.groups.metrics import GroupsMetrics
from services.groups.schemas import UnitName, UnitRow
from services.groups.store import Store
from services.shared.contracts.groups import UnitUpserted
from services.shared.contracts.vocabulary import parent_of
from services.shared.database import Document
from services.shared.http.problem import FieldError, Problem
from services.shared.http.validation import field_error
from services.shared.messaging import Origin, Outbox, UnitOfWork

COLUMNS = ("code", "level", "name_en", "name_hi", "women_target")
MOST_ERRORS = 100
TRANSACTION_UNITS = 500


@dataclass
class Outcome:
    """What an upsert did, in units."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.created += other.created
        self.updated += other.updated
        self.unchanged += other.unchanged


class Units:
    def __init__(
        self, store: Store, outbox: Outbox, metrics: GroupsMetrics, *, on_new_units: Callable[[], None]
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._metrics = metrics
        self._on_new_units = on_new_units

    async def put(self, row: UnitRow, origin: Origin) -> tuple[Document, bool]:
        """Create or change one unit; the unit and whether it is new.

        Raises: `Problem` 409 when its parent is unknown.
        """
        parent = parent_of(row.code)
        if parent is not None and parent not in await self._store.units([parent]):
            raise Problem(409, "unknown-parent", "Conflict", "the unit above this one does not exist yet")
        outcome = await self._write([row], origin)
        unit = (await self._store.units([row.code]))[row.code]
        return unit, bool(outcome.created)

    async def load(
        self, text: str, can_access: Callable[[str], bool], origin: Origin, *, dry_run: bool
    ) -> Outcome:
        """Create or change the units of a CSV text with the columns `COLUMNS`, parents in it or in the tree.

        Every row is checked before the first is written; a load that is cut off may be sent again.

        Raises: `Problem` 422 with a pointer `/rows/<line>/<column>` for each bad field.
        """
        rows = await self._checked(text, can_access)
        outcome = Outcome()
        by_code = {row.code: row for row in rows}
        for codes in chunks(sorted(by_code, key=lambda c: (c.count("-"), c)), TRANSACTION_UNITS):
            batch = [by_code[code] for code in codes]
            outcome.add(await (self._compare(batch) if dry_run else self._write(batch, origin)))
        return outcome

    async def _write(self, rows: Sequence[UnitRow], origin: Origin) -> Outcome:
        async def body(work: UnitOfWork) -> Outcome:
            known = await self._store.units([row.code for row in rows], work.session)
            outcome, changed = _compare(rows, known)
            await self._store.save_units(changed, work.session)
            for unit in changed:
                work.stage(unit_upserted(unit), unit["version"], origin)
            return outcome

        outcome = await self._outbox.transact(body)
        self._metrics.units.labels("created").inc(len(outcome.created))
        self._metrics.units.labels("updated").inc(len(outcome.updated))
        if outcome.created:
            self._on_new_units()
        return outcome

    async def _compare(self, rows: Sequence[UnitRow]) -> Outcome:
        return _compare(rows, await self._store.units([row.code for row in rows]))[0]

    async def _checked(self, text: str, can_access: Callable[[str], bool]) -> list[UnitRow]:
        rows, errors = parse(text)
        lines = dict(zip((row.code for row in rows.values()), rows, strict=False))
        for line, row in rows.items():
            if lines[row.code] != line:
                errors.append(FieldError(f"/rows/{line}/code", "appears twice"))
            if not can_access(row.code):
                errors.append(FieldError(f"/rows/{line}/code", "is outside your units"))
        parents = {p for row in rows.values() if (p := parent_of(row.code)) and p not in lines}
        known: Mapping[str, Any] = await self._store.units(parents) if parents else {}
        for line, row in rows.items():
            parent = parent_of(row.code)
            if parent is not None and parent not in lines and parent not in known:
                errors.append(
                    FieldError(f"/rows/{line}/code", "its parent is neither in this file nor in the tree")
                )
        if errors:
            raise _refused(errors)
        return list(rows.values())


def unit_upserted(unit: Document) -> UnitUpserted:
    return UnitUpserted(
        unit=unit["_id"],
        level=unit["level"],
        parent=unit["parent"],
        women_target=unit["women_target"],
        names=unit["name"],
    )


def parse(text: str) -> tuple[dict[int, UnitRow], list[FieldError]]:
    """Rows by their line number (the header is line 1), and what is wrong with the others.

    Raises: `Problem` 422 when the header is not ours or the text is no CSV.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: dict[int, UnitRow] = {}
    errors: list[FieldError] = []
    try:
        header = next(reader, [])
        if tuple(h.strip() for h in header) not in (COLUMNS, COLUMNS[:-1]):
            raise _refused([FieldError("/rows/1", f"the header must be {','.join(COLUMNS)}")])
        for cells in reader:
            if not any(cells):
                continue
            row = _row(cells, header, reader.line_num, errors)
            if row is not None:
                rows[reader.line_num] = row
    except csv.Error as error:
        raise _refused([FieldError(f"/rows/{reader.line_num}", f"not CSV: {error}")]) from error
    if not rows and not errors:
        raise _refused([FieldError("/rows", "there are no rows")])
    return rows, errors


def _row(cells: list[str], header: list[str], line: int, errors: list[FieldError]) -> UnitRow | None:
    if len(cells) != len(header):
        errors.append(FieldError(f"/rows/{line}", f"has {len(cells)} fields, the header {len(header)}"))
        return None
    cell = dict(zip((h.strip() for h in header), (c.strip() for c in cells), strict=True))
    try:
        return UnitRow.model_validate(
            {
                "code": cell["code"],
                "level": cell["level"],
                "name": {"en": cell["name_en"], "hi": cell["name_hi"]},
                "women_target": cell.get("women_target") or None,
            }
        )
    except ValidationError as error:
        for found in error.errors(include_url=False):
            wrong = field_error({**found, "loc": ("body", *found["loc"])})
            errors.append(FieldError(f"/rows/{line}{wrong[0]}", wrong[1]))
        return None


def _compare(rows: Sequence[UnitRow], known: Mapping[str, Document]) -> tuple[Outcome, list[Document]]:
    outcome, changed = Outcome(), []
    for row in rows:
        unit: Document = {
            "_id": row.code,
            "level": row.level.value,
            "parent": parent_of(row.code),
            "name": UnitName.model_dump(row.name),
            "women_target": row.women_target,
        }
        before = known.get(row.code)
        if before is not None and unit == {key: before.get(key) for key in unit}:
            outcome.unchanged.append(row.code)
            continue
        (outcome.created if before is None else outcome.updated).append(row.code)
        changed.append({**unit, "version": before["version"] + 1 if before else 1})
    return outcome, changed


def _refused(errors: Sequence[FieldError]) -> Problem:
    return Problem(
        422,
        "invalid-units",
        "The units are not loaded",
        "nothing was written",
        errors=errors[:MOST_ERRORS],
        extra={"error_count": len(errors)},
    )
