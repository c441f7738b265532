"""The loops that apply what is stored: callbacks, and reports that wait for their message to be known.

They use claims as the dispatcher does, so that replicas work side by side: a process that is killed leaves
its claim to run out, and what it has applied already changes nothing when it is applied again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from services.notifications.core.channel import Gateway
from services.notifications.core.core import Core
from services.notifications.core.updates import Callback, Update
from services.notifications.webhooks.intake import WHATSAPP
from services.notifications.webhooks.metrics import NOT_APPLIED, UNREADABLE, WebhookMetrics
from services.notifications.webhooks.store import CallbackStore, Parked, ParkedStore, StoredCallback
from services.notifications.webhooks.updating import Item, Updating
from services.shared.contracts.vocabulary import Channel
from services.shared.faults import may_pass
from services.shared.loops import Backoff, Pace, Turn, poll_loop
from services.shared.messaging import bisect

log = structlog.get_logger(__name__)

PACE: Final = Pace(shortest=0.02, longest=1.0)
"""An idle process notices what another one has stored at most a second late."""
GATHER_SECONDS: Final = 0.1
"""The pause after a batch that was not full. Each batch is a transaction of some calls, whatever its size: at
300 callbacks a second, one of a batch of thirty costs half of what one of a batch of ten costs."""
PARKED_PACE: Final = Pace(shortest=1.0, longest=5.0)
BACKOFF: Final = Backoff(first=0.25, longest=30.0)
TOGETHER: Final = 500
"""Updates in one transaction; a single callback of WhatsApp may have a thousand."""
PARKED_TOGETHER: Final = 200


def channel_of(source: str) -> str:
    return Channel.WHATSAPP.value if source == WHATSAPP else source.partition("/")[0]


class Applier:
    """`gateways` are those that read the callbacks of each source (`whatsapp`, `sms/<gateway>`)."""

    def __init__(
        self,
        core: Core,
        gateways: Mapping[str, Gateway],
        callbacks: CallbackStore,
        parked: ParkedStore,
        updating: Updating,
        metrics: WebhookMetrics,
        stored: asyncio.Event,
    ) -> None:
        settings = core.settings
        self._gateways = gateways
        self._senders = [gateway.name for gateway in gateways.values()]
        self._callbacks = callbacks
        self._parked = parked
        self._updating = updating
        self._metrics = metrics
        self._stored = stored
        self._vault = core.vault
        self._clock = core.clock
        self._max_batch = settings.callback_batch
        self._claim_seconds = settings.callback_claim_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Apply callbacks until `stop`.

        Raises: a fault that does not pass, for the supervisor to log and restart.
        """
        await poll_loop("callbacks", self._turn, stop, PACE, wake=self._stored, backoff=BACKOFF)

    async def run_parked(self, stop: asyncio.Event) -> None:
        """Look again at parked reports until `stop`. Raises: as `run` does."""
        await poll_loop("parked-reports", self._parked_turn, stop, PARKED_PACE, backoff=BACKOFF)

    async def _turn(self) -> Turn:
        found = await self.apply()
        if 0 < found < self._max_batch:
            await asyncio.sleep(GATHER_SECONDS)
        return Turn.of(found, self._max_batch)

    async def _parked_turn(self) -> Turn:
        return Turn.of(await self.look_again(), PARKED_TOGETHER)

    async def apply(self) -> int:
        """Apply one batch of callbacks; returns how many were found waiting (maybe claimed by another).

        Raises: `TransientError`, `TimeoutError` or `pymongo.errors.PyMongoError`; the claim is then put back.
        """
        if not self._gateways:
            return 0
        claim, batch, found = await self._callbacks.claim(
            self._gateways, self._clock.now(), self._claim_seconds, self._max_batch
        )
        if not batch:
            return found
        try:
            async with asyncio.timeout(self._claim_seconds / 2):
                failed = await self._apply(batch)
                for reason in set(failed.values()):
                    await self._callbacks.bury(
                        [id_ for id_, r in failed.items() if r == reason], claim, reason
                    )
                applied = [each.id for each in batch if each.id not in failed]
                await self._callbacks.applied(applied, claim, self._clock.now())
        except BaseException:
            await asyncio.shield(self._put_back(claim))
            raise
        for reason in failed.values():
            self._metrics.buried.labels(reason).inc()
        return found

    async def look_again(self) -> int:
        """Look at one batch of parked reports whose time has come; returns how many. Raises: as `apply`."""
        waiting = await self._parked.claim(
            self._senders, self._clock.now(), self._claim_seconds, PARKED_TOGETHER
        )

        async def attempt(some: Sequence[Parked]) -> None:
            await self._updating.look_again(some)

        async def isolate(one: Parked, error: Exception) -> None:
            # It comes up again when its claim has run out, and is dropped after a day.
            log.error("report.not_applied", report=one.id, error=type(error).__name__)

        if waiting:
            await bisect(waiting, attempt, isolate, splits=lambda error: not may_pass(error))
        return len(waiting)

    async def _apply(self, batch: Sequence[StoredCallback]) -> dict[str, str]:
        """The reasons of those that cannot be applied, by id: each alone, and as little of it as possible."""
        failed: dict[str, str] = {}
        items: list[Item] = []
        for callback in batch:
            try:
                items += await self._read(callback)
            except Exception as error:
                if may_pass(error):
                    raise
                log.error("callback.unreadable", callback=callback.id, error=type(error).__name__)
                failed[callback.id] = UNREADABLE

        async def isolate(item: Item, error: Exception) -> None:
            log.error("callback.not_applied", callback=item.callback_id, error=type(error).__name__)
            failed[item.callback_id] = NOT_APPLIED

        for start in range(0, len(items), TOGETHER):
            part = items[start : start + TOGETHER]
            await bisect(part, self._updating.apply, isolate, splits=lambda error: not may_pass(error))
        return failed

    async def _read(self, stored: StoredCallback) -> list[Item]:
        """Raises: `ValueError` for a body that is not of this provider."""
        opened = (await self._vault.open([(stored.id, stored.sealed)]))[0]
        gateway = self._gateways[stored.source]
        headers = {"content-type": stored.media_type}
        updates: Sequence[Update] = gateway.parse(Callback(opened["body"], headers, stored.received_at))
        of = (stored.id, channel_of(stored.source), gateway.name, gateway.account)
        return [Item(*of, update, stored.received_at) for update in updates]

    async def _put_back(self, claim: str) -> None:
        """Give up the claim at once; if even that fails, it runs out."""
        try:
            await self._callbacks.put_back(claim, self._clock.now())
        except Exception as error:
            log.warning("callbacks.claim_left_to_run_out", error=type(error).__name__)
