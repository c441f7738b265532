"""The collection of recovery; its work is done by commands."""

from __future__ import annotations

from services.members.recovery.store import MIGRATIONS
from services.shared.runtime import Feature


def recovery() -> Feature:
    return Feature(migrations=MIGRATIONS)
