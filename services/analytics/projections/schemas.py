"""Bodies and answers of the routes about projections."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, Strict, StringConstraints

from services.shared.http.body import Body

ProjectionName = Annotated[str, StringConstraints(pattern="^[a-z_]{1,32}$")]


class RebuildIn(Body):
    """`accept_cut_off`: build also from a log that has lost its first records, whose past is then missing
    in what replaces the live figures."""

    names: Annotated[list[ProjectionName], Field(min_length=1, max_length=32)]
    accept_cut_off: Annotated[bool, Strict()] = False


class DriftIn(Body):
    """Without `names`: all projections."""

    names: Annotated[list[ProjectionName], Field(min_length=1, max_length=32)] | None = None


class BuildOut(BaseModel):
    """A build that goes on: `percent` of the log is folded. In the phase `overlap` it is live already."""

    job: str
    version: int
    phase: str
    percent: float = Field(ge=0, le=100)


class ProjectionOut(BaseModel):
    """`version` is live since `since`, null before the first build has ended; `wanted` is this release's."""

    name: str
    state: Literal["live", "building", "missing"]
    version: int | None
    wanted: int
    since: datetime | None
    build: BuildOut | None


class ProjectionsOut(BaseModel):
    items: list[ProjectionOut]
