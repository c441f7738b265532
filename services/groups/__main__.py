"""`python -m services.groups` serves; `--help` lists what else it does."""

from __future__ import annotations

from services.groups.app import build
from services.groups.restoring import plan
from services.groups.settings import GroupsSettings
from services.groups.snapshots import SOURCES
from services.shared.operations.commands import commands

cli = commands(GroupsSettings.load, build, plan=plan, sources=SOURCES)

if __name__ == "__main__":
    cli()
