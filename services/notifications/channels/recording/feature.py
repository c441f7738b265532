"""Recording: the collection of recorded messages, which exists whichever sender the settings name."""

from __future__ import annotations

from services.notifications.channels.recording.store import MIGRATIONS
from services.notifications.core.core import Core
from services.shared.runtime import Feature


def recording(_: Core) -> Feature:
    return Feature(migrations=MIGRATIONS)
