"""`python -m services.notifications` serves; `--help` lists its other commands."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

import structlog

from services.notifications.app import build
from services.notifications.recovery.rebuild_plan import plan
from services.notifications.recovery.snapshots import SOURCES
from services.notifications.settings import NotificationsSettings
from services.shared.operations.commands import commands
from services.shared.operations.rotation import Sealed, rotate_keys
from services.shared.peers import ServiceToken
from services.shared.runtime import Service

log = structlog.get_logger(__name__)

SEALED: Final = (
    Sealed("contacts", "sealed", "contacts"),  # cached by processes of release 0.1.0
    Sealed("recorded_messages", "sealed", "messages"),
    Sealed("fingerprint_keys", "sealed", "keys of fingerprints"),
    Sealed("callbacks", "sealed", "callbacks"),
    Sealed("inbound", "sealed", "answers"),
)


def checked(settings: NotificationsSettings, **options: Any) -> Service:
    """Build the service. An unusable token is only told: its file may still come."""
    if math.isnan(ServiceToken(settings.service_token_file).expires_at()):
        log.warning("service_token.unreadable", file=str(settings.service_token_file))
    return build(settings, **options)


cli = commands(NotificationsSettings.load, checked, plan=plan, sources=SOURCES)


@cli.command("rotate-keys")
def rotate() -> None:
    """Rotate the keys of recorded messages."""
    settings = NotificationsSettings.load()
    migrations = build(settings).migrations
    asyncio.run(rotate_keys(settings, settings.master_keys, migrations, SEALED, print))


if __name__ == "__main__":
    cli()
