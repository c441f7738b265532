"""What analytics listens to: every event, the kind of fact it is about, what it states and what it adds to its day."""

from __future__ import annotations

from services.analytics import statements as say
from services.analytics.domain import GROUPS, MEMBERS, NOTIFICATIONS, PLACEMENTS, UNITS
from services.analytics.handlers import Projector
from services.shared.contracts import groups, members, notifications
from services.shared.messaging import Subscriptions


def subscriptions(projector: Projector) -> Subscriptions:
    reads = projector.reads
    return {
        members.MemberJoined: reads(MEMBERS, say.member_joined, say.joined_flows),
        members.MemberUpdated: reads(MEMBERS, say.member_updated),
        members.MemberMoved: reads(MEMBERS, say.member_moved, say.moved_flows),
        members.MemberLeft: reads(MEMBERS, say.member_left, say.flow("members.left")),
        members.MemberSnapshot: reads(MEMBERS, say.member_snapshot, say.joined_flows, whole=True),
        groups.UnitUpserted: reads(UNITS, say.unit_upserted, whole=True),
        groups.GroupCreated: reads(GROUPS, say.group_described),
        groups.GroupUpdated: reads(GROUPS, say.group_described),
        groups.GroupFilled: reads(GROUPS, say.group_described),
        groups.GroupInviteChanged: reads(GROUPS, say.group_invite_changed),
        groups.GroupMemberAssigned: reads(PLACEMENTS, say.member_assigned, say.flow("placements.assigned")),
        groups.GroupMemberWaiting: reads(PLACEMENTS, say.member_waiting, say.flow("placements.waiting")),
        groups.GroupMemberRemoved: reads(PLACEMENTS, say.member_removed, say.flow("placements.removed")),
        groups.GroupSnapshot: reads(GROUPS, say.group_snapshot, whole=True),
        groups.PlacementSnapshot: reads(PLACEMENTS, say.placement_snapshot, whole=True),
        notifications.NotificationQueued: reads(
            NOTIFICATIONS, say.notification("queued"), say.welcome_flow("welcomes.queued")
        ),
        notifications.NotificationSuppressed: reads(
            NOTIFICATIONS, say.notification("suppressed"), say.welcome_flow("welcomes.suppressed")
        ),
        notifications.NotificationSent: reads(
            NOTIFICATIONS, say.notification("sent"), say.welcome_flow("welcomes.sent")
        ),
        notifications.NotificationFailed: reads(
            NOTIFICATIONS, say.notification("failed"), say.welcome_flow("welcomes.failed")
        ),
        notifications.NotificationSnapshot: reads(NOTIFICATIONS, say.notification_snapshot, whole=True),
    }
