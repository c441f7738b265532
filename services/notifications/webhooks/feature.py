"""Webhooks: the routes, the loops that apply what came, and what operators look at."""

from __future__ import annotations

from collections.abc import Mapping

from services.notifications.core.channel import Gateway
from services.notifications.core.core import Core
from services.notifications.webhooks.api import body_limits, operators_router, webhooks_router
from services.notifications.webhooks.applier import Applier
from services.notifications.webhooks.gauges import waiting
from services.notifications.webhooks.intake import Intake
from services.notifications.webhooks.metrics import WebhookMetrics
from services.notifications.webhooks.service import Webhooks
from services.notifications.webhooks.store import (
    MIGRATIONS,
    CallbackStore,
    IdentityStore,
    InboundStore,
    ParkedStore,
)
from services.notifications.webhooks.updating import Updating
from services.shared.runtime import Feature


def webhooks(
    core: Core,
    gateways: Mapping[str, Gateway],
) -> Feature:
    """`gateways` by source: `whatsapp`, `sms/<gateway>`. Callbacks of other sources are answered 404."""
    database, metrics = core.runtime.database, WebhookMetrics(core.runtime.registry)
    callbacks, parked, inbound = CallbackStore(database), ParkedStore(database), InboundStore(database)
    intake = Intake(core, callbacks, frozenset(gateways), metrics)
    updating = Updating(core, parked, inbound, IdentityStore(database), metrics)
    applier = Applier(core, gateways, callbacks, parked, updating, metrics, intake.stored)
    return Feature(
        routers=[webhooks_router(intake), operators_router(Webhooks(core, callbacks, inbound))],
        body_limits=body_limits(core.settings.sms_callback_secrets),
        loops={"callbacks": applier.run, "parked-reports": applier.run_parked},
        slow_gauges=[waiting(core, callbacks, parked, metrics)],
        migrations=MIGRATIONS,
        on_stop=[intake.close],
    )
