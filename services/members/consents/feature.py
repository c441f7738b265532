"""Consents of members, and notices."""

from __future__ import annotations

from services.members.consents.api import consents_router, notices_router
from services.members.consents.opting_out import OptOuts
from services.members.consents.service import Consents, Notices
from services.members.consents.store import MIGRATIONS
from services.members.core.core import Core
from services.shared.contracts.notifications import MemberOptedOut
from services.shared.runtime import Feature


def consents(core: Core) -> Feature:
    return Feature(
        routers=[consents_router(Consents(core)), notices_router(Notices(core))],
        subscriptions={MemberOptedOut: OptOuts(core).opted_out},
        migrations=MIGRATIONS,
    )
