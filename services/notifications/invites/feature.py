"""Invites that are sent again."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.invites.handlers import InviteHandlers
from services.shared.contracts.groups import GroupInviteLapsed, GroupMemberObserved, GroupMemberRemoved
from services.shared.contracts.members import MemberErasureRequested, MemberLeft, MemberMerged
from services.shared.runtime import Feature


def invites(core: Core) -> Feature:
    handlers = InviteHandlers(core)
    endings = (GroupMemberObserved, GroupMemberRemoved, MemberLeft, MemberErasureRequested, MemberMerged)
    return Feature(
        subscriptions={GroupInviteLapsed: handlers.lapsed, **dict.fromkeys(endings, handlers.withdrawn)}
    )
