"""Gauges of what waits: callbacks, parked reports, and opt-outs for a look."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.webhooks.metrics import WebhookMetrics
from services.notifications.webhooks.store import CallbackStore, ParkedStore
from services.shared.runtime.slow_gauges import Reading


def waiting(core: Core, callbacks: CallbackStore, parked: ParkedStore, metrics: WebhookMetrics) -> Reading:
    async def read() -> None:
        found = await callbacks.waiting()
        metrics.waiting.set(found.callbacks)
        age = (core.clock.now() - found.oldest).total_seconds() if found.oldest else 0.0
        metrics.oldest.set(max(0.0, age))
        metrics.parked.set(await parked.count())
        metrics.inferred.set(await core.suppressions.count_inferred())

    return read
