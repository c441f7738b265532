"""Records set aside for a later release: the first release that knows their type applies them.

During an upgrade, old and new processes share the partitions, so an old one may fetch an event of a type that
only the new one knows. The old one keeps its place (ADR 27), and the new one reads it from the topic again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from services.shared.contracts.catalogue import BY_TYPE
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging.broker import Partition
from services.shared.messaging.dead_letters.replay import NOT_ANSWERED, NOT_SUBSCRIBED, Failure, Replayer
from services.shared.messaging.dead_letters.store import (
    UPGRADE,
    DeadLetters,
    Filter,
    Place,
    partition_of,
    place_of,
)
from services.shared.messaging.metrics import FOREIGN, OURS, MessagingMetrics
from services.shared.messaging.publishing.outbox import Outbox

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 60.0
"""An old process may set records aside while the new one already runs, so one look at start is not enough."""
BATCH: Final = 500


class SetAside:
    """Replays what this release knows, in the order of the log. Every process may run it at the same time."""

    def __init__(
        self, replayer: Replayer, dead_letters: DeadLetters, outbox: Outbox, metrics: MessagingMetrics
    ) -> None:
        self._replayer = replayer
        self._dead_letters = dead_letters
        self._outbox = outbox
        self._buried = metrics.dead_letters.buried
        self._after: Place | None = None
        """Where the next batch begins: records that cannot be read now keep no later ones waiting."""
        self._silent: set[Partition] = set()
        """Partitions of which a record could not be read in this pass: later ones of its subject wait too."""

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop("set-aside", self.turn, stop, Pace.every(EVERY_SECONDS))

    async def turn(self) -> Turn:
        """Replay one batch. A record that cannot be applied is set aside no longer: one of a type that this
        service does not handle is discarded, any other is a dead letter. One that cannot be read now stays.

        Raises: `TransientError` when MongoDB or the broker does not answer.
        """
        found = await self._dead_letters.known_set_aside(list(BY_TYPE), after=self._after, limit=BATCH)
        self._after = place_of(found[-1]) if len(found) == BATCH else None
        if not found:
            self._silent.clear()
            return Turn.NOTHING
        readable = [letter for letter in found if partition_of(letter) not in self._silent]
        report = await self._replayer.replay(Filter(state="set_aside"), readable, by=UPGRADE)
        unanswered = {failure.id for failure in report.withheld if failure.reason == NOT_ANSWERED}
        self._silent |= {partition_of(letter) for letter in readable if letter["_id"] in unanswered}
        foreign = [x for x in report.withheld if x.reason not in (NOT_SUBSCRIBED, NOT_ANSWERED)]
        ignored = [failure.id for failure in report.withheld if failure.reason == NOT_SUBSCRIBED]
        await self._dead_letters.settle(ignored, "discarded", by=UPGRADE, note="not subscribed")
        await self._declare_dead(report.failed, OURS)
        await self._declare_dead(foreign, FOREIGN)
        log.info(
            "set_aside.replayed", replayed=report.replayed, ignored=len(ignored), unanswered=len(unanswered)
        )
        if self._after is None:
            self._silent.clear()
        return Turn.of(len(found), BATCH)

    async def _declare_dead(self, failures: Sequence[Failure], kind: str) -> None:
        for failure in failures:
            declare = partial(self._dead_letters.declare_dead, failure.id, failure.reason, failure.detail)
            if await self._outbox.transact(declare):
                self._buried.labels(failure.reason, kind).inc()
