"""`python -m services.members` serves; `--help` lists its other commands."""

from __future__ import annotations

import asyncio
from typing import Final

from services.members.app import build
from services.members.recovery.rebuild_plan import plan
from services.members.recovery.snapshots import SOURCES
from services.members.settings import MembersSettings
from services.shared.operations.commands import commands
from services.shared.operations.rotation import Sealed, rotate_keys

SEALED: Final = (Sealed("members", "contact", "contacts"),)

cli = commands(MembersSettings.load, build, plan=plan, sources=SOURCES)


@cli.command("rotate-keys")
def rotate() -> None:
    """Rotate the keys of contacts."""
    settings = MembersSettings.load()
    migrations = build(settings).migrations
    asyncio.run(rotate_keys(settings, settings.master_keys, migrations, SEALED, print))


if __name__ == "__main__":
    cli()
