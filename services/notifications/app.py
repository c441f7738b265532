"""The table of contents of the notifications service: its features."""

from __future__ import annotations

from collections.abc import Mapping

from services.notifications.channels.console.sender import ConsoleSender
from services.notifications.channels.recording.feature import recording
from services.notifications.channels.recording.sender import RecordingSender
from services.notifications.core.channel import Gateway, Sender
from services.notifications.core.core import Core
from services.notifications.erasure.feature import erasure
from services.notifications.invites.feature import invites
from services.notifications.recovery.feature import recovery
from services.notifications.sending.feature import sending
from services.notifications.settings import NotificationsSettings
from services.notifications.tracking.feature import tracking
from services.notifications.webhooks.feature import webhooks
from services.notifications.welcomes.feature import welcomes
from services.shared.clock import Clock
from services.shared.messaging import Broker
from services.shared.runtime import Runtime, Service, successions

DESCRIPTION = (
    "Every message to a member: with consent, in their language, once, and why it was or was not sent."
)


def build(
    settings: NotificationsSettings,
    *,
    clock: Clock | None = None,
    broker: Broker | None = None,
    sender: Sender | None = None,
) -> Service:
    """`sender` replaces the one that the settings name."""
    core = Core(Runtime(settings, clock=clock, broker=broker), settings)
    return compose(core, sender or chosen_sender(core))


def compose(core: Core, sender: Sender, gateways: Mapping[str, Gateway] | None = None) -> Service:
    """`gateways`: those that read callbacks, by source (`whatsapp`, `sms/<gateway>`)."""
    features = [
        core.feature(),
        successions(core.runtime.successions),
        welcomes(core),
        invites(core),
        sending(core, sender),
        recording(core),
        webhooks(core, gateways or {}),
        erasure(core),
        tracking(core),
        recovery(),
    ]
    return Service(core.runtime, features, description=DESCRIPTION)


def chosen_sender(core: Core) -> Sender:
    match core.settings.sender:
        case "console":
            return ConsoleSender()
        case "recording":
            return RecordingSender(core.runtime.database, core.vault, core.clock)
