"""HTTP schemas of units and their imports."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from services.groups.core.domain import Unit
from services.groups.core.schemas import UnitName
from services.groups.tree.domain import ImportResult
from services.groups.tree.fields import WomenTarget
from services.shared.contracts.vocabulary import UnitLevel, parent_of
from services.shared.http.body import Body
from services.shared.text import refuse


def _number(value: object) -> object:
    """In JSON, a share is a number: neither "1" nor true."""
    if value is not None and type(value) not in (int, float):
        raise refuse("must be a number")
    return value


class UnitIn(Body):
    name: UnitName
    level: UnitLevel
    women_target: Annotated[WomenTarget, BeforeValidator(_number)] = None


class UnitOut(BaseModel):
    code: str
    level: UnitLevel
    parent: str | None
    name: UnitName
    women_target: float | None
    version: int


class ImportOut(BaseModel):
    """Units that a load created, updated and left unchanged; with `dry_run`, that it would.

    At most 100 codes are listed.
    """

    dry_run: bool
    created: int
    updated: int
    unchanged: int
    changed_codes: list[str]


def unit_of(code: str, body: UnitIn) -> Unit:
    return Unit(code, body.level.value, parent_of(code), dict(body.name), body.women_target)


def unit_out(unit: Unit) -> dict[str, Any]:
    return {name: getattr(unit, name) for name in UnitOut.model_fields}


def import_out(result: ImportResult, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "created": len(result.created),
        "updated": len(result.updated),
        "unchanged": result.unchanged,
        "changed_codes": list(result.changed_codes),
    }
