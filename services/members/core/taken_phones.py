"""The one question about strangers that stays askable: whether a phone belongs to an active member.

Whoever registers people must learn that somebody is registered already, also elsewhere. So that nobody tries
a list of numbers, each such answer is recorded like a reading of contacts, and a subject that has had too
many of them can neither register anybody nor change a phone for a while: were only taken phones refused, the
refusal would be the answer.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from services.members.core.errors import asked_too_often, phone_already_registered
from services.members.core.metrics import MembersMetrics
from services.members.core.reading import MemberReader
from services.shared.clock import Clock
from services.shared.errors import ConflictError
from services.shared.identity import Identity

Via: TypeAlias = Literal["phone_of_registration", "phone_of_change", "phone_of_import", "phone_of_merge"]
MAX_SUBJECTS: Final = 4096
"""Subjects that are remembered; of more, the one that asked least recently is forgotten."""
MAX_TOLD: Final = 16
"""Members of whom a subject was told last: to be told of one of them again is nothing new."""


class _Bucket(NamedTuple):
    """Answers left, when that was so, and the members told of last."""

    left: float
    at: float
    told: tuple[str, ...]


class AnswerLimit:
    """A token bucket for each subject: `burst` answers at once, then `per_hour`. An answer about the same
    member again is free: whoever repeats one number keeps nobody who has the same token from registering.

    An answer is taken when it is given, so requests that run at once may all be answered; the bucket then
    goes below zero, and the caller waits longer.
    """

    def __init__(self, clock: Clock, *, burst: int, per_hour: int) -> None:
        self._clock = clock
        self._burst = burst
        self._seconds_each = 3600 / per_hour
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_seconds(self, subject: str, answers: int = 1) -> int:
        """Seconds until the subject may have so many answers; 0 if it may now."""
        missing = answers - self._now_left(subject)
        return max(0, math.ceil(round(missing * self._seconds_each, 3)))

    def take(self, subject: str, member_id: str) -> None:
        """Count the answer that the phone is this member's."""
        known = self._buckets.get(subject)
        told = known.told if known else ()
        cost = member_id not in told
        told = (*(each for each in told if each != member_id), member_id)[-MAX_TOLD:]
        self._buckets[subject] = _Bucket(self._now_left(subject) - cost, self._now(), told)
        self._buckets.move_to_end(subject)
        if len(self._buckets) > MAX_SUBJECTS:
            self._buckets.popitem(last=False)

    def _now_left(self, subject: str) -> float:
        known = self._buckets.get(subject)
        if known is None:
            return self._burst
        return min(self._burst, known.left + max(0, self._now() - known.at) / self._seconds_each)

    def _now(self) -> float:
        return self._clock.now().timestamp()


class TakenPhones:
    def __init__(self, reader: MemberReader, limit: AnswerLimit, metrics: MembersMetrics) -> None:
        self._reader = reader
        self._limit = limit
        self._metrics = metrics

    def check_may_ask(self, caller: Identity, phones: int = 1) -> None:
        """Before every request that would be told of taken phones. Raises: `TooManyError`."""
        if wait := self._limit.wait_seconds(caller.subject, phones):
            self._metrics.phones_limited.inc()
            raise asked_too_often(wait)

    async def refuse(self, caller: Identity, member_id: str, unit: str, via: Via) -> ConflictError:
        """The error that tells `caller` of the member who has the phone; recorded before it is raised."""
        await self.record(caller, [member_id], via)
        return phone_already_registered(caller, member_id, unit)

    async def record(self, caller: Identity, member_ids: Sequence[str], via: Via) -> None:
        """Record that `caller` is told that these members have the phones asked for."""
        for member_id in member_ids:
            self._limit.take(caller.subject, member_id)
        await self._reader.record(caller, member_ids, via)
        self._metrics.phones_confirmed.labels(via).inc(len(member_ids))
