"""HTTP schemas of comparisons."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from services.groups.tree.redrawing.domain import Change
from services.groups.tree.redrawing.store import Comparison
from services.groups.tree.schemas import UnitOut, unit_out
from services.shared.http.pagination import Page


class ComparisonOut(BaseModel):
    """A comparison of the tree below `unit` (null: all of it). `counts` are of changes by kind, of those
    `refused`, of the `members`, `groups` and `officers` that the retired units hold, and of the members whom
    nobody has mapped to a part of a split (`unmapped`)."""

    id: str
    unit: str | None
    state: Literal["comparing", "ready", "applying", "applied"]
    requested_by: str
    created_at: datetime
    updated_at: datetime
    apply_job: str | None
    counts: dict[str, int]


class HeldOut(BaseModel):
    members: int
    groups: int
    officers: int


class ChangeOut(BaseModel):
    """One change. `wanted` is the unit as it will be, null for one that is retired: that has `successors`.
    `groups_go_to` is who takes its groups over. `refused` is the reason why it cannot be applied."""

    kind: Literal["added", "formed", "renamed", "changed", "moved", "merged", "split", "vanished"]
    code: str
    wanted: UnitOut | None
    predecessors: list[str]
    successors: list[str]
    groups_go_to: str | None
    held: HeldOut
    refused: Literal["holds_members"] | None


class ComparisonPage(Page[ChangeOut]):
    comparison: ComparisonOut


def comparison_out(comparison: Comparison) -> dict[str, Any]:
    return {
        "id": comparison.id,
        "unit": comparison.root,
        "state": comparison.state,
        "requested_by": comparison.by,
        "created_at": comparison.created_at,
        "updated_at": comparison.updated_at,
        "apply_job": comparison.apply_job,
        "counts": dict(comparison.counts),
    }


def change_out(change: Change) -> dict[str, Any]:
    held = change.held
    return {
        "kind": change.kind,
        "code": change.code,
        "wanted": unit_out(change.wanted) if change.wanted else None,
        "predecessors": list(change.predecessors),
        "successors": list(change.successors),
        "groups_go_to": change.successors[0] if change.successors else None,
        "held": {"members": held.members, "groups": held.groups, "officers": held.officers},
        "refused": change.refused,
    }
