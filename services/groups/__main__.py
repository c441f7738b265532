"""`python -m services.groups` serves; `--help` lists its other commands."""

from __future__ import annotations

import asyncio
from typing import Final

from services.groups.app import build
from services.groups.recovery.rebuild_plan import plan
from services.groups.recovery.snapshots import SOURCES
from services.groups.settings import GroupsSettings
from services.shared.operations.commands import commands
from services.shared.operations.rotation import Sealed, rotate_keys

SEALED: Final = (Sealed("groups", "sealed_link", "invite links"),)

cli = commands(GroupsSettings.load, build, plan=plan, sources=SOURCES)


@cli.command("rotate-keys")
def rotate() -> None:
    """Rotate the keys of invite links."""
    settings = GroupsSettings.load()
    migrations = build(settings).migrations
    asyncio.run(rotate_keys(settings, settings.master_keys, migrations, SEALED, print))


if __name__ == "__main__":
    cli()
