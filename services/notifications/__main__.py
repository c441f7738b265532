"""`python -m services.notifications` serves; `--help` lists its other commands."""

from __future__ import annotations

import asyncio
from typing import Final

from services.notifications.app import build
from services.notifications.recovery.rebuild_plan import plan
from services.notifications.recovery.snapshots import SOURCES
from services.notifications.settings import NotificationsSettings
from services.shared.operations.commands import commands
from services.shared.operations.rotation import Sealed, rotate_keys

SEALED: Final = (
    Sealed("contacts", "sealed", "contacts"),  # cached by processes of release 0.1.0
    Sealed("recorded_messages", "sealed", "messages"),
)

cli = commands(NotificationsSettings.load, build, plan=plan, sources=SOURCES)


@cli.command("rotate-keys")
def rotate() -> None:
    """Rotate the keys of recorded messages."""
    settings = NotificationsSettings.load()
    migrations = build(settings).migrations
    asyncio.run(rotate_keys(settings, settings.master_keys, migrations, SEALED, print))


if __name__ == "__main__":
    cli()
