"""Sending: the dispatcher."""

from __future__ import annotations

from services.notifications.core.channel import Sender
from services.notifications.core.core import Core
from services.notifications.sending.dispatcher import Dispatcher
from services.notifications.sending.held_gauges import HeldGauges
from services.notifications.sending.store import MIGRATIONS
from services.shared.runtime import Feature


def sending(core: Core, sender: Sender) -> Feature:
    return Feature(
        loops={"dispatcher": Dispatcher(core, sender).run, "held-gauges": HeldGauges(core).run},
        migrations=MIGRATIONS,
    )
