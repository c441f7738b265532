"""What this service listens to."""

from __future__ import annotations

from typing import Any

from services.groups.handlers import Handlers
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberSnapshot
from services.shared.messaging import Subscriptions


def subscriptions(handlers: Handlers) -> Subscriptions:
    return {
        MemberJoined: handlers.arrive,
        MemberMoved: handlers.arrive,
        MemberLeft: handlers.leave,
        MemberSnapshot: handlers.settle,
    }


def unit_of(event: Envelope[Any]) -> str:
    """Two placements meet on the open group of their unit."""
    unit: str = event.data.unit
    return unit
