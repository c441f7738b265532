"""What this service listens to."""

from __future__ import annotations

from services.notifications.handlers import Handlers
from services.shared.contracts.groups import (
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupSnapshot,
    PlacementSnapshot,
)
from services.shared.contracts.members import (
    MemberJoined,
    MemberLeft,
    MemberMoved,
    MemberSnapshot,
    MemberUpdated,
)
from services.shared.messaging import Subscriptions


def subscriptions(handlers: Handlers) -> Subscriptions:
    return {
        MemberJoined: handlers.member_changed,
        MemberUpdated: handlers.member_changed,
        MemberMoved: handlers.member_changed,
        MemberLeft: handlers.member_changed,
        MemberSnapshot: handlers.member_changed,
        GroupMemberAssigned: handlers.member_changed,
        GroupMemberRemoved: handlers.member_changed,
        PlacementSnapshot: handlers.member_changed,
        GroupInviteChanged: handlers.invite_changed,
        GroupSnapshot: handlers.invite_changed,
    }
