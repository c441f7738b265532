"""Answers about the women connected."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.analytics.core.calendar import Interval

Share = Annotated[float, Field(ge=0, le=1)]


class Funnel(BaseModel):
    """Adult women of a unit and all below it, at the end of a day. `registered` are members; `assigned` hold
    a seat in a group; `invited` were sent the way into it, or are in it; `joined` were seen in it. `active`
    brought in somebody who joined within the last 30 days, in a group or not. `asked` agreed that others in a
    women's group see their number."""

    registered: int
    assigned: int
    invited: int
    joined: int
    active: int
    asked: int


class InvitedBy(BaseModel):
    """People who joined on a member's invitation, by what the inviter said of their gender, in the inviter's
    unit."""

    female: int
    male: int
    other: int
    undisclosed: int


class Inclusion(BaseModel):
    """The women connected in a unit and all below it, at the end of the day `on`. `women_share` is women /
    members who disclosed a gender; nobody's is guessed."""

    unit: str
    on: date
    members: int
    women: int
    women_share: Share | None
    women_target: Share | None = Field(description="The unit's own, or inherited from above it.")
    on_target: bool | None = Field(description="Null without a target, or while the share is not known.")
    funnel: Funnel
    invited_by: InvitedBy


class FunnelPoint(BaseModel):
    """The funnel at the end of a step, or of the last day asked for; `start` is the step's first day."""

    start: date
    women: int
    funnel: Funnel


class FunnelSeries(BaseModel):
    unit: str
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    step: Interval
    points: list[FunnelPoint]


class Words(BaseModel):
    en: str
    hi: str


class NextUnit(BaseModel):
    """A unit, and the effort that would bring on the most women there: `gain` of them. The figures are of the
    unit itself, without those below it."""

    unit: str
    reason: Literal["follow_up", "invite", "seat", "open_group", "register", "first"]
    gain: int
    words: Words
    women: int
    women_target: Share | None
    registered: int
    assigned: int
    invited: int
    joined: int


class NextUnits(BaseModel):
    unit: str
    items: list[NextUnit]
