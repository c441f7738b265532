"""Answers of analytics, and the words that its parameters take."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field

from services.analytics.core.calendar import Interval
from services.shared.contracts.vocabulary import ShippedLevel
from services.shared.http.pagination import Page

Share = Annotated[float, Field(ge=0, le=1)]
ByWord = dict[str, int]


class Metric(StrEnum):
    """Events counted by day. `placements.*` are seats in groups, `welcomes.*` welcome notifications."""

    MEMBERS_JOINED = "members.joined"
    MEMBERS_LEFT = "members.left"
    MEMBERS_MERGED = "members.merged"
    MEMBERS_UNMERGED = "members.unmerged"
    MEMBERS_MOVED_IN = "members.moved_in"
    MEMBERS_MOVED_OUT = "members.moved_out"
    MEMBERS_REDRAWN_IN = "members.redrawn_in"
    MEMBERS_REDRAWN_OUT = "members.redrawn_out"
    PLACEMENTS_ASSIGNED = "placements.assigned"
    PLACEMENTS_WAITING = "placements.waiting"
    PLACEMENTS_REMOVED = "placements.removed"
    WELCOMES_QUEUED = "welcomes.queued"
    WELCOMES_SENT = "welcomes.sent"
    WELCOMES_SUPPRESSED = "welcomes.suppressed"
    WELCOMES_FAILED = "welcomes.failed"


class Members(BaseModel):
    """Members who have neither left nor been merged into another, in the unit and all below it. Who uses two
    platforms counts under both. `without_number` are those of `total` who have no number of their own: no
    seat, and no message."""

    total: int
    without_number: int
    by_gender: ByWord
    by_language: ByWord
    by_platform: ByWord
    women_share: Share | None = Field(
        description="Women / members who disclosed a gender; null while nobody has."
    )


class Groups(BaseModel):
    """`seats` is the capacity of all groups, `taken` the seats reserved for members."""

    total: int
    seats: int
    taken: int


class Notifications(BaseModel):
    by_state: ByWord


class Overview(BaseModel):
    unit: str
    as_of: datetime | None = Field(
        description="Time of the newest event in the figures of the whole system; null before the first."
    )
    members: Members
    groups: Groups
    notifications: Notifications


class Point(BaseModel):
    """`start` is the first day of the step; weeks begin on Monday."""

    start: date
    value: int


class Timeseries(BaseModel):
    """Days are India's (UTC+05:30). Every step from `from` to `to` is there, 0 where nothing happened."""

    unit: str
    metric: Metric
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    step: Interval
    points: list[Point]
    total: int


class Coverage(BaseModel):
    """One unit; the figures include all below it, except `has_live_group` and `has_admins`, which are the
    unit's own."""

    unit: str
    has_live_group: bool = Field(description="Has a group of its own with an invite link.")
    has_admins: bool = Field(
        default=False, description="Has a live group of its own that at least two people run."
    )
    groups: int
    live_groups: int
    seats: int
    taken: int
    members: int
    women: int
    women_share: Share | None
    women_target: Share | None = Field(description="The unit's own, or inherited from above it.")
    on_target: bool | None = Field(description="Null without a target, or while the share is not known.")


class CoverageSummary(BaseModel):
    """All units of the level, whatever the page: how many have a live group, have one that at least two
    people run, have a target for women, and meet it; and what is in them and all below them."""

    units: int
    with_live_group: int
    with_admins: int = 0
    with_target: int
    on_target: int
    groups: int
    live_groups: int
    seats: int
    taken: int
    members: int
    women: int
    women_share: Share | None


class CoveragePage(Page[Coverage]):
    unit: str
    level: ShippedLevel
    summary: CoverageSummary | None = Field(description="On the first page only.")


class MemberHeld(BaseModel):
    """A member as the events have told, by which it is counted; null where none has told it."""

    unit: str
    gender: str | None = None
    language: str | None = None
    platforms: list[str] | None = None
    own_number: bool | None = None
    joined: bool = False
    left: bool = False
    merged: bool = False


class PlacementHeld(BaseModel):
    """Whether the member takes a seat (`taken`, `none`), in which group, and in all of them."""

    unit: str | None
    state: str
    group: str | None = None
    groups: list[str] = []


class ConnectionHeld(BaseModel):
    """By which days the member counts in coverage: when events told their unit, gender or age (`profile`), or
    their seats (`seats`), when an invitation was first sent, and how many joined by theirs on which day."""

    profile: list[str] = []
    seats: list[str] = []
    invited: str | None = None
    credits: dict[str, int] = {}


class Holdings(BaseModel):
    """All that this service holds about one member; everything else are sums."""

    member_id: str
    member: MemberHeld | None
    placement: PlacementHeld | None
    connection: ConnectionHeld | None = None
