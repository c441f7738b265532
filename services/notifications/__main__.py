"""`python -m services.notifications` serves; `--help` lists what else it does."""

from __future__ import annotations

import asyncio

from services.notifications.app import build
from services.notifications.migrations import MIGRATIONS, SEALED
from services.notifications.restoring import plan
from services.notifications.settings import NotificationsSettings
from services.notifications.snapshots import SOURCES
from services.shared.operations.commands import commands
from services.shared.operations.rotation import rotate_keys

cli = commands(NotificationsSettings.load, build, plan=plan, sources=SOURCES)


@cli.command("rotate-keys")
def rotate() -> None:
    """Rotate the keys of cached contacts and recorded messages."""
    settings = NotificationsSettings.load()
    asyncio.run(rotate_keys(settings, settings.master_keys, MIGRATIONS, SEALED, print))


if __name__ == "__main__":
    cli()
