"""A grievance and its life: open, answered, closed. Pure.

Rule 14 of the DPDP Rules 2025 asks for an answer within a published time of at most 90 days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    ACCESS = "access"
    CORRECTION = "correction"
    ERASURE = "erasure"
    CONSENT = "consent"
    MESSAGES = "messages"
    OTHER = "other"


class GrievanceState(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"
    CLOSED = "closed"


class NotAnsweredError(Exception):
    """A grievance is closed only once it has an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grievance:
    """`member_id` is None for somebody who is no member. `unit` is where they were when they complained;
    `opened_by` and `changed_by` are subjects of tokens. The words are stored apart, sealed."""

    id: str
    member_id: str | None = None
    unit: str
    kind: str
    state: str = GrievanceState.OPEN.value
    opened_at: datetime
    opened_by: str
    due_at: datetime
    answered_at: datetime | None = None
    closed_at: datetime | None = None
    changed_at: datetime
    changed_by: str
    version: int = 1


@dataclass(frozen=True, slots=True)
class Words:
    """The complaint, and the answer to it."""

    text: str
    answer: str | None = None


def change(
    grievance: Grievance, words: Words, *, answer: str | None, close: bool, by: str, now: datetime
) -> tuple[Grievance, Words]:
    """The grievance after an answer, a better answer, or its closing; the same if nothing changes.

    Raises: `NotAnsweredError`.
    """
    new_words = words if answer is None else replace(words, answer=answer)
    if close and new_words.answer is None:
        raise NotAnsweredError
    state = grievance.state
    if close:
        state = GrievanceState.CLOSED.value
    elif state == GrievanceState.OPEN and new_words.answer is not None:
        state = GrievanceState.ANSWERED.value
    if (state, new_words) == (grievance.state, words):
        return grievance, words
    answered_at = grievance.answered_at or (now if new_words.answer is not None else None)
    new = replace(
        grievance,
        state=state,
        answered_at=answered_at,
        closed_at=grievance.closed_at or (now if close else None),
        changed_at=now,
        changed_by=by,
        version=grievance.version + 1,
    )
    return new, new_words
