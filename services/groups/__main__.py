"""`python -m services.groups` serves; `--help` lists its other commands."""

from __future__ import annotations

from services.groups.app import build
from services.groups.recovery.rebuild_plan import plan
from services.groups.recovery.snapshots import SOURCES
from services.groups.settings import GroupsSettings
from services.shared.operations.commands import commands

cli = commands(GroupsSettings.load, build, plan=plan, sources=SOURCES)

if __name__ == "__main__":
    cli()
