"""Invite links and invites that are sent again."""

from __future__ import annotations

import asyncio

from services.groups.core.core import Core
from services.groups.invites.handlers import InviteHandlers
from services.groups.invites.reinviting import LOOP as REINVITES
from services.groups.invites.reinviting import Reinviter
from services.groups.invites.reset_job import ResetJob
from services.groups.invites.sealing import LOOP as LINKS
from services.groups.invites.sealing import LinkSealer
from services.groups.invites.store import MIGRATIONS, InviteStore
from services.shared.contracts.notifications import NotificationSent
from services.shared.runtime import Feature


def invites(core: Core) -> Feature:
    store, due = InviteStore(core.runtime.database), asyncio.Event()
    reset = ResetJob(core, due)
    core.on_link_changed.append(reset.link_changed)
    return Feature(
        subscriptions={NotificationSent: InviteHandlers(core).sent},
        loops={LINKS: LinkSealer(core, store).run, REINVITES: Reinviter(core, store, due).run},
        jobs=[reset.kind],
        migrations=MIGRATIONS,
    )
