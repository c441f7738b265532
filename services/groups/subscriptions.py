"""What this service listens to."""

from __future__ import annotations

from services.groups.handlers import Handlers
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberSnapshot
from services.shared.eventkit.consumer import Subscriptions


def subscriptions(handlers: Handlers) -> Subscriptions:
    return {
        MemberJoined: handlers.arrive,
        MemberMoved: handlers.arrive,
        MemberLeft: handlers.leave,
        MemberSnapshot: handlers.settle,
    }
