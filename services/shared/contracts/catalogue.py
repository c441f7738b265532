"""All event types by name: a consumer can decode these, and docs/events.md lists them."""

from __future__ import annotations

from services.shared.contracts import analytics, groups, members, notifications
from services.shared.contracts.base import Event

EVENTS: tuple[type[Event], ...] = (
    members.MemberJoined,
    members.MemberUpdated,
    members.MemberMoved,
    members.MemberLeft,
    members.MemberConsentChanged,
    members.MemberRolesChanged,
    members.MemberMerged,
    members.MemberUnmerged,
    members.MemberSnapshot,
    groups.UnitUpserted,
    groups.UnitSucceeded,
    groups.GroupCreated,
    groups.GroupUpdated,
    groups.GroupInviteChanged,
    groups.GroupFilled,
    groups.GroupMemberAssigned,
    groups.GroupMemberWaiting,
    groups.GroupMemberRemoved,
    groups.GroupMemberObserved,
    groups.GroupAdminsChanged,
    groups.GroupArchived,
    groups.PolicyApplied,
    groups.GroupInviteLapsed,
    groups.GroupMemberRedrawn,
    groups.GroupSnapshot,
    groups.PlacementSnapshot,
    groups.ObservationSnapshot,
    notifications.NotificationQueued,
    notifications.NotificationDeferred,
    notifications.NotificationSuppressed,
    notifications.NotificationSent,
    notifications.NotificationFailed,
    notifications.NotificationSnapshot,
    notifications.MemberOptedOut,
    notifications.MemberReplied,
    notifications.MemberUnreachable,
    members.MemberErasureRequested,
    members.MemberErased,
    groups.GroupsErasureAcknowledged,
    notifications.NotificationsErasureAcknowledged,
    analytics.AnalyticsErasureAcknowledged,
)

BY_TYPE: dict[str, type[Event]] = {event.event_type: event for event in EVENTS}


def publisher_of(topic: str) -> str | None:
    """The source of all events of a topic; None for a topic without events."""
    return next((event.source for event in EVENTS if event.topic == topic), None)
