"""An incident, its duties and their clocks. Pure.

CERT-In's directions of 28 April 2022 ask for a report within 6 hours of noticing an incident; rule 7 of the
DPDP Rules 2025 for notices to the Data Protection Board and to the affected persons without delay, and for a
report to the Board within 72 hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class Duty(StrEnum):
    CERT_IN = "cert_in"
    BOARD_NOTICE = "board_notice"
    BOARD_REPORT = "board_report"
    PERSONS = "persons"


CLOCKS: Final[Mapping[Duty, timedelta]] = {
    Duty.CERT_IN: timedelta(hours=6),
    Duty.BOARD_REPORT: timedelta(hours=72),
}
"""From the detection. The other duties are due without delay."""


@dataclass(frozen=True, slots=True)
class Done:
    """When a duty was done, and who said so (the subject of a token)."""

    duty: str
    at: datetime
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """The question whose answer is the list of the affected, frozen at `taken_at`; `count` is None until the
    job `job` has taken all. `by` reads: members whose contact `subject` was shown; `by` members: those of
    `unit` who joined then. `since` <= time < `until`."""

    by: str
    subject: str | None = None
    unit: str
    since: datetime | None = None
    until: datetime
    taken_at: datetime
    taken_by: str
    job: str
    count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The record of an incident; its words are stored apart, sealed. `unit` is whose people may see it."""

    id: str
    unit: str
    detected_at: datetime
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
    done: tuple[Done, ...] = ()
    affected: Affected | None = None
    version: int = 1

    def due_at(self, duty: Duty) -> datetime | None:
        """None: without delay."""
        return self.detected_at + CLOCKS[duty] if duty in CLOCKS else None

    def done_of(self, duty: Duty) -> Done | None:
        return next((done for done in self.done if done.duty == duty), None)

    def running(self) -> Mapping[str, datetime]:
        """The due times of the clocks that run, by duty."""
        return {
            duty.value: self.detected_at + term for duty, term in CLOCKS.items() if not self.done_of(duty)
        }


@dataclass(frozen=True, slots=True)
class Words:
    """The words for the notices (rule 7(1)): what happened, what may follow, what was done about it, what
    the affected can do, and whom they can ask."""

    title: str
    what: str
    consequences: str | None = None
    measures: str | None = None
    advice: str | None = None
    contact: str | None = None


def mark(incident: Incident, marks: Mapping[str, datetime | None], by: str) -> Incident:
    """The incident with duties done at a time, or (None) not done after all."""
    done = {each.duty: each for each in incident.done}
    for duty, at in marks.items():
        if at is None:
            done.pop(duty, None)
        elif duty not in done or done[duty].at != at:
            done[duty] = Done(duty, at, by)
    return replace(incident, done=tuple(done.values()))
