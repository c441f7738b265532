"""Recovery: the snapshots of this service; the rest of its work is done by commands."""

from __future__ import annotations

from services.notifications.recovery.snapshots import SOURCES
from services.shared.runtime import Feature


def recovery() -> Feature:
    return Feature(snapshots=SOURCES)
