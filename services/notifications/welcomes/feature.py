"""Welcomes: the events of members, seats and invite links make, hold, release and suppress them."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.welcomes.handlers import WelcomeHandlers
from services.shared.contracts.groups import (
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupSnapshot,
    PlacementSnapshot,
)
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberRolesChanged,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.runtime import Feature


def welcomes(core: Core) -> Feature:
    handlers = WelcomeHandlers(core)
    return Feature(
        subscriptions={
            MemberJoined: handlers.member_changed,
            MemberUpdated: handlers.member_changed,
            MemberMoved: handlers.member_changed,
            MemberLeft: handlers.member_changed,
            MemberConsentChanged: handlers.member_changed,
            MemberRolesChanged: handlers.member_changed,
            MemberMerged: handlers.member_merged,
            MemberUnmerged: handlers.member_changed,
            MemberSnapshot: handlers.member_changed,
            MemberErasureRequested: handlers.member_changed,
            GroupMemberAssigned: handlers.member_changed,
            GroupMemberRemoved: handlers.member_changed,
            PlacementSnapshot: handlers.member_changed,
            GroupInviteChanged: handlers.invite_changed,
            GroupSnapshot: handlers.invite_changed,
        }
    )
