"""HTTP schemas of rosters and drift."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, Strict

from services.groups.core.domain import PlacementState
from services.groups.core.observations.domain import Cause, Observation
from services.groups.core.schemas import Id
from services.groups.rosters.entries import MAX_ENTRIES
from services.groups.rosters.service import Drift
from services.groups.rosters.store import shown
from services.shared.http.body import Body

Phone = Annotated[str, Strict(), Field(max_length=200)]


class RosterIn(Body):
    """`phones` are entries as people's phones list them."""

    members: Annotated[tuple[Id, ...], Field(max_length=MAX_ENTRIES)] = ()
    phones: Annotated[tuple[Phone, ...], Field(max_length=MAX_ENTRIES)] = ()


class RosterCountsOut(BaseModel):
    """Members who are in the group they should be in (`joined`), and those who are not where they should be,
    by cause; `strangers` are numbers of no member."""

    joined: int
    never_came: int
    left: int
    two_groups: int
    no_seat: int
    strangers: int


class DriftingMember(BaseModel):
    """`reinvites` counts the invites that were sent again, `due_at` is when the next one goes."""

    member_id: str
    cause: Cause
    state: PlacementState
    observed_at: datetime | None
    invited_at: datetime | None
    reinvites: int
    due_at: datetime | None


class GroupDriftOut(BaseModel):
    """`taken_at` and `complete_at` are the times of the newest roster and the newest complete one; null
    before the first."""

    group_id: str
    unit: str
    kind: str
    seats: int
    taken_at: datetime | None
    complete_at: datetime | None
    counts: RosterCountsOut
    items: list[DriftingMember]
    next: str | None


class KindDrift(BaseModel):
    """Groups of one kind of which there was a roster; `oldest_at` is that of the one longest ago."""

    kind: str
    groups: int
    seats: int
    oldest_at: datetime
    counts: RosterCountsOut


class DriftOut(BaseModel):
    items: list[KindDrift]


def group_drift_out(drift: Drift, members: list[Observation] | Any, cursor: str | None) -> dict[str, Any]:
    group = drift.group
    return {
        "group_id": group.id,
        "unit": group.unit,
        "kind": group.kind,
        "seats": group.taken,
        "taken_at": drift.counts.get("at"),
        "complete_at": drift.counts.get("complete_at"),
        "counts": shown(drift.counts),
        "items": [{name: getattr(each, name) for name in DriftingMember.model_fields} for each in members],
        "next": cursor,
    }


def drift_out(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: row[name] for name in ("groups", "seats", "oldest_at")}
    return {"kind": row["_id"], **plain, "counts": shown(row)}
