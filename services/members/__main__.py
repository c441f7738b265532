"""`python -m services.members` serves; `--help` lists what else it does."""

from __future__ import annotations

import asyncio

from services.members.app import build
from services.members.restoring import plan
from services.members.settings import MembersSettings
from services.members.snapshots import SOURCES
from services.members.store import MIGRATIONS, SEALED
from services.shared.operations.commands import commands
from services.shared.operations.rotation import rotate_keys

cli = commands(MembersSettings.load, build, plan=plan, sources=SOURCES)


@cli.command("rotate-keys")
def rotate() -> None:
    """Rotate the keys of contacts."""
    settings = MembersSettings.load()
    asyncio.run(rotate_keys(settings, settings.master_keys, MIGRATIONS, SEALED, print))


if __name__ == "__main__":
    cli()
