"""HTTP schemas of the policies of sending."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, Field, Strict, StringConstraints

from services.notifications.core.policies.domain import (
    Budget,
    FrequencyCap,
    Policies,
    QuietHours,
    Rate,
    SilenceWindow,
)
from services.shared.contracts.vocabulary import Channel, Purpose, UnitCode
from services.shared.database import Document
from services.shared.http.body import Body
from services.shared.http.values import Timestamp

MAX_UNITS: Final = 2000
_ZONES: Final = frozenset(available_timezones())


def _zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("is no time zone of the IANA database, such as Asia/Kolkata")
    ZoneInfo(name)
    return name


Hour = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""A time of day, to the minute."""
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
Whole = Annotated[int, Strict(), Field(ge=1, le=10_000_000)]
Purposes = Annotated[list[Purpose], Field(min_length=1, max_length=len(Purpose))]
Channels = Annotated[list[Channel], Field(min_length=1, max_length=len(Channel))]


class QuietHoursIn(Body):
    """Nothing of these purposes goes on these channels from `begins` to `until`, by local time; past midnight
    if `until` is earlier."""

    name: Slug
    begins: Hour
    until: Hour
    purposes: Purposes
    channels: Channels


class SilenceWindowIn(Body):
    """The `hours` before the close of poll in the polling area (`units`, with all below them): one for each
    phase and repoll."""

    id: Slug
    units: Annotated[list[UnitCode], Field(min_length=1, max_length=MAX_UNITS)]
    poll_closes_at: Timestamp
    hours: Annotated[float, Field(gt=0, le=336, allow_inf_nan=False)]


class FrequencyCapIn(Body):
    """At most `messages` of these purposes together to one person in any `days` days."""

    purposes: Purposes
    messages: Annotated[int, Strict(), Field(ge=1, le=1000)]
    days: Annotated[float, Field(gt=0, le=90, allow_inf_nan=False)]


class BudgetIn(Body):
    """The people whom one account may reach on this channel in any 24 hours. A welcome may use 95 % of it, a
    reminder 90 %, a broadcast 80 %."""

    channel: Channel
    recipients: Whole


class RateIn(Body):
    """Messages per second from one number, by all processes together, instead of the setting's."""

    channel: Channel
    per_second: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class PoliciesIn(Body):
    """All policies of sending. `election_matter` are the purposes that are silent before a poll and, if
    `certificates` is true, need a certificate of their content."""

    zone: Zone
    quiet_hours: Annotated[list[QuietHoursIn], Field(max_length=20)]
    silence_windows: Annotated[list[SilenceWindowIn], Field(max_length=500)]
    election_matter: Annotated[list[Purpose], Field(max_length=len(Purpose))]
    certificates: Annotated[bool, Strict()]
    frequency_caps: Annotated[list[FrequencyCapIn], Field(max_length=20)]
    budgets: Annotated[list[BudgetIn], Field(max_length=len(Channel))]
    rates: Annotated[list[RateIn], Field(max_length=len(Channel))]


class QuietHoursOut(BaseModel):
    name: str
    begins: str
    until: str
    purposes: list[str]
    channels: list[str]


class SilenceWindowOut(BaseModel):
    id: str
    units: list[str]
    poll_closes_at: datetime
    hours: float


class FrequencyCapOut(BaseModel):
    purposes: list[str]
    messages: int
    days: float


class BudgetOut(BaseModel):
    channel: str
    recipients: int


class RateOut(BaseModel):
    channel: str
    per_second: float


class PoliciesOut(BaseModel):
    """The policies in force; version 0 is as shipped."""

    version: int
    zone: str
    quiet_hours: list[QuietHoursOut]
    silence_windows: list[SilenceWindowOut]
    election_matter: list[str]
    certificates: bool
    frequency_caps: list[FrequencyCapOut]
    budgets: list[BudgetOut]
    rates: list[RateOut]


class PutOut(PoliciesOut):
    """`judged_again` notifications had been deferred by the policies before, and are judged by these."""

    judged_again: int


class ChangeOut(BaseModel):
    """A version of the policies, and by whom it was put in force."""

    version: int
    changed_at: datetime
    changed_by: str


def policies_of(body: PoliciesIn) -> Policies:
    return Policies(
        zone=body.zone,
        quiet_hours=tuple(
            QuietHours(
                each.name,
                time.fromisoformat(each.begins),
                time.fromisoformat(each.until),
                _words(each.purposes),
                _words(each.channels),
            )
            for each in body.quiet_hours
        ),
        silence_windows=tuple(
            SilenceWindow(each.id, tuple(each.units), each.poll_closes_at, each.hours)
            for each in body.silence_windows
        ),
        election_matter=_words(body.election_matter),
        certificates=body.certificates,
        frequency_caps=tuple(
            FrequencyCap(_words(each.purposes), each.messages, each.days) for each in body.frequency_caps
        ),
        budgets=tuple(Budget(each.channel.value, each.recipients) for each in body.budgets),
        rates=tuple(Rate(each.channel.value, each.per_second) for each in body.rates),
    )


def _words(values: list[Purpose] | list[Channel]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.value for value in values))


def policies_out(policies: Policies) -> dict[str, Any]:
    return {
        "version": policies.version,
        "zone": policies.zone,
        "quiet_hours": [
            {
                "name": each.name,
                "begins": f"{each.begins:%H:%M}",
                "until": f"{each.ends:%H:%M}",
                "purposes": each.purposes,
                "channels": each.channels,
            }
            for each in policies.quiet_hours
        ],
        "silence_windows": [
            {
                "id": each.id,
                "units": each.units,
                "poll_closes_at": each.closes_at,
                "hours": each.hours,
            }
            for each in policies.silence_windows
        ],
        "election_matter": policies.election_matter,
        "certificates": policies.certificates,
        "frequency_caps": policies.frequency_caps,
        "budgets": policies.budgets,
        "rates": policies.rates,
    }


def change_out(row: Document) -> dict[str, Any]:
    return {"version": row["_id"], "changed_at": row["changed_at"], "changed_by": row["changed_by"]}
