"""`python -m services.notifications` serves; `--help` lists what else it does."""

from __future__ import annotations

from services.notifications.app import build
from services.notifications.restoring import plan
from services.notifications.settings import NotificationsSettings
from services.notifications.snapshots import SOURCES
from services.shared.commands import commands

cli = commands(NotificationsSettings.load, build, plan=plan, sources=SOURCES)

if __name__ == "__main__":
    cli()
