"""Leaps: an event whose sequence is absurdly beyond what is known of its subject is refused.

Otherwise one forged event would freeze its subject for good, since every genuine event would be stale. A
forged leap below the bound freezes its subject too, until `ops repair` makes the consumer learn it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from services.shared.contracts.base import Envelope, Event
from services.shared.errors import PermanentError
from services.shared.messaging.publishing.outbox import UnitOfWork

E = TypeVar("E", bound=Event)

MAX_LEAP: Final = 1_000_000
"""Most that a sequence may be beyond the last one known of its subject (0 for an unknown subject).

Honest events leap too: after dead letters, a gap in the log, types that a consumer does not read, or as the
snapshot of a subject that a consumer has lost. Then they leap by the number of changes that one member, unit,
group or notification had meanwhile. A million is a change every five minutes for ten years. The bound is that
wide because a refused honest event would never be accepted again.
"""


def is_leap(sequence: int, known: int) -> bool:
    """Whether `sequence` is beyond belief for a subject whose last known sequence is `known`."""
    return sequence - known > MAX_LEAP


def leap_error() -> PermanentError:
    """The fault of an event that leaps."""
    return PermanentError("sequence_leap", f"more than {MAX_LEAP} beyond what is known of the subject")


def without_leaps(
    events: Sequence[Envelope[E]], known: Callable[[str], int], work: UnitOfWork
) -> Sequence[Envelope[E]]:
    """The events that do not leap; the others are refused, each alone. `known` answers the last sequence
    known of a subject, or 0."""
    if all(event.sequence <= MAX_LEAP for event in events):
        return events  # nearly always: whatever is known, none of them can leap
    credible = []
    for event in events:
        if is_leap(event.sequence, known(event.subject)):
            work.refuse(event.id, leap_error())
        else:
            credible.append(event)
    return credible


def newer(events: Sequence[Envelope[E]], known: Callable[[str], int], work: UnitOfWork) -> list[Envelope[E]]:
    """The events that are newer than what is known, without those that leap."""
    return [e for e in without_leaps(events, known, work) if e.sequence > known(e.subject)]
