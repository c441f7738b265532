"""HTTP schemas of units and their imports."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, Strict

from services.groups.core.domain import Unit
from services.groups.core.levels import LevelWord
from services.groups.core.policy import BY_PLACE
from services.groups.core.schemas import UnitName
from services.groups.tree.domain import AS_KNOWN, ImportResult
from services.groups.tree.fields import WomenTarget
from services.groups.tree.store import Tree
from services.shared.contracts.vocabulary import MAX_LEVELS, Constituency, ShippedLevel, parent_of
from services.shared.http.body import ABSENT, Body
from services.shared.text import refuse


def _number(value: object) -> object:
    """In JSON, a share is a number: neither "1" nor true."""
    if value is not None and type(value) not in (int, float):
        raise refuse("must be a number")
    return value


class ConstituencyIn(Body):
    """An assembly constituency: its number, and its name if it is known."""

    number: Annotated[Constituency, Strict()]
    name: UnitName | None = None


class UnitIn(Body):
    """Without `constituency` the unit's stays as it is; null removes it."""

    name: UnitName
    level: LevelWord
    women_target: Annotated[WomenTarget, BeforeValidator(_number)] = None
    constituency: ConstituencyIn | None = ABSENT


def _distinct(levels: list[str]) -> list[str]:
    if len(set(levels)) < len(levels):
        raise refuse("a level appears twice")
    if not set(levels).isdisjoint(BY_PLACE):
        raise refuse(f"{' and '.join(BY_PLACE)} have a meaning of their own in a placement policy")
    return levels


class LevelsIn(Body):
    """All levels of the tree, from the root."""

    levels: Annotated[list[LevelWord], Field(min_length=1, max_length=MAX_LEVELS), AfterValidator(_distinct)]


class LevelsOut(BaseModel):
    levels: list[str]
    version: int


class ConstituencyOut(BaseModel):
    number: int
    name: UnitName | None


class UnitOut(BaseModel):
    """A retired unit has the `successors` that it became, none if it was given up; a live one has null."""

    code: str
    level: ShippedLevel
    parent: str | None
    name: UnitName
    women_target: float | None
    version: int
    constituency: ConstituencyOut | None
    successors: list[str] | None


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
    given = body.constituency
    number = given.number if given else None
    if "constituency" not in body.model_fields_set:
        number = AS_KNOWN
    return Unit(
        code,
        body.level,
        parent_of(code),
        dict(body.name),
        body.women_target,
        constituency=number,
        constituency_name=dict(given.name) if given and given.name else None,
    )


def unit_out(unit: Unit) -> dict[str, Any]:
    out = {name: getattr(unit, name) for name in UnitOut.model_fields}
    if unit.constituency is not None:
        out["constituency"] = {"number": unit.constituency, "name": unit.constituency_name}
    return out


def levels_out(tree: Tree) -> dict[str, Any]:
    return {"levels": list(tree.levels), "version": tree.levels_version}


def import_out(result: ImportResult, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "created": len(result.created),
        "updated": len(result.updated),
        "unchanged": result.unchanged,
        "changed_codes": list(result.changed_codes),
    }
