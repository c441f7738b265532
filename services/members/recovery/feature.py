"""Recovery: the collection of lost members, and the snapshots; the rest of its work is done by commands."""

from __future__ import annotations

from services.members.recovery.snapshots import SOURCES
from services.members.recovery.store import MIGRATIONS
from services.shared.runtime import Feature


def recovery() -> Feature:
    return Feature(migrations=MIGRATIONS, snapshots=SOURCES)
