"""Sending: the dispatcher, polls of the gateways, and breakers for operators to see."""

from __future__ import annotations

from services.notifications.core.channel import Gateways, Sender
from services.notifications.core.core import Core
from services.notifications.sending.api import breakers_router, explain_router
from services.notifications.sending.dispatcher import Dispatcher
from services.notifications.sending.explaining import Explaining
from services.notifications.sending.held_gauges import HeldGauges
from services.notifications.sending.polling import GatewayPolls
from services.notifications.sending.store import MIGRATIONS
from services.shared.runtime import Feature


def sending(core: Core, sender: Sender | Gateways) -> Feature:
    routers = [explain_router(Explaining(core, sender)), breakers_router(core.breakers)]
    loops = {"dispatcher": Dispatcher(core, sender).run}
    if not isinstance(sender, Gateways):
        loops["held-gauges"] = HeldGauges(core).run
        return Feature(routers=routers, loops=loops, migrations=MIGRATIONS)
    names = [each.name for each in sender.by_channel.values()]
    loops |= {"gateway-polls": GatewayPolls(core, sender).run, "held-gauges": HeldGauges(core, names).run}
    return Feature(routers=routers, loops=loops, migrations=MIGRATIONS, on_close=[sender.close])
