"""The table of contents of the notifications service: its features."""

from __future__ import annotations

from collections.abc import Mapping

from services.notifications.channels.console.sender import ConsoleSender
from services.notifications.channels.exotel.sender import ExotelSender
from services.notifications.channels.recording.feature import recording
from services.notifications.channels.recording.sender import RecordingSender
from services.notifications.channels.smtp.sender import SmtpSender
from services.notifications.channels.whatsapp.sender import WhatsAppSender
from services.notifications.core.channel import Gateway, Gateways, Sender
from services.notifications.core.core import Core
from services.notifications.erasure.feature import erasure
from services.notifications.invites.feature import invites
from services.notifications.policies.feature import policies
from services.notifications.recovery.feature import recovery
from services.notifications.resending.feature import resending
from services.notifications.sending.feature import sending
from services.notifications.settings import NotificationsSettings
from services.notifications.templates.feature import templates
from services.notifications.tracking.feature import tracking
from services.notifications.unsubscribing.feature import unsubscribing
from services.notifications.webhooks.feature import webhooks
from services.notifications.welcomes.feature import welcomes
from services.shared.clock import Clock
from services.shared.contracts.vocabulary import Channel
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
    sender: Sender | Gateways | None = None,
) -> Service:
    """`sender` replaces the one that the settings name."""
    core = Core(Runtime(settings, clock=clock, broker=broker), settings)
    return compose(core, sender or chosen_sender(core))


def compose(core: Core, sender: Sender | Gateways, sources: Mapping[str, Gateway] | None = None) -> Service:
    """`sources`: the gateways that read callbacks, by source (`whatsapp`, `sms/<gateway>`); those of `sender`
    if not given."""
    if sources is None:
        sources = sources_of(sender) if isinstance(sender, Gateways) else {}
    features = [
        core.feature(),
        successions(core.runtime.successions),
        welcomes(core),
        invites(core),
        sending(core, sender),
        policies(core),
        recording(core),
        webhooks(core, sources),
        unsubscribing(core),
        erasure(core),
        resending(core),
        tracking(core),
        templates(core),
        recovery(),
    ]
    return Service(core.runtime, features, description=DESCRIPTION)


def chosen_sender(core: Core) -> Sender | Gateways:
    match core.settings.sender:
        case "console":
            return ConsoleSender()
        case "recording":
            return RecordingSender(core.runtime.database, core.vault, core.clock)
        case "gateways":
            return gateways(core)


def gateways(core: Core) -> Gateways:
    """The gateways that the settings name, by channel."""
    settings, chosen = core.settings, dict[str, Gateway]()
    if settings.whatsapp_gateway == "cloud_api":
        chosen[Channel.WHATSAPP] = WhatsAppSender(settings, core.metrics)
    if settings.sms_gateway == "exotel":
        chosen[Channel.SMS] = ExotelSender(settings, core.metrics)
    if settings.email_gateway == "smtp":
        chosen[Channel.EMAIL] = SmtpSender(settings)
    return Gateways(chosen)


def sources_of(gateways: Gateways) -> dict[str, Gateway]:
    """The gateways whose providers call back, by the source in their routes. A mail server does not."""
    sources: dict[str, Gateway] = {}
    for channel, gateway in gateways.by_channel.items():
        if channel == Channel.WHATSAPP:
            sources["whatsapp"] = gateway
        elif channel == Channel.SMS:
            sources[f"sms/{gateway.name}"] = gateway
    return sources
