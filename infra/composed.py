"""The four services, composed but not started: tools derive from them what they publish, read and measure."""

from __future__ import annotations

import base64
from pathlib import Path

from services.analytics import app as analytics
from services.analytics.settings import AnalyticsSettings
from services.groups import app as groups
from services.groups.settings import GroupsSettings
from services.members import app as members
from services.members.settings import MembersSettings
from services.notifications import app as notifications
from services.notifications.settings import NotificationsSettings
from services.shared.runtime import Service


def composed_services() -> dict[str, Service]:
    """The services by name. None connects to anything before it is started."""
    keys = {"none": base64.b64encode(bytes(96))}
    index_key = base64.b64encode(bytes(32))
    return {
        "members": members.build(
            MembersSettings(
                master_keys=keys,
                blind_index_key=index_key,
                groups_url="",
                notifications_url="",
                analytics_url="",
                service_token_file=Path("unused"),
            )
        ),
        "groups": groups.build(
            GroupsSettings(master_keys=keys, members_url="", service_token_file=Path("unused"))
        ),
        "notifications": notifications.build(
            NotificationsSettings(
                master_keys=keys, members_url="", groups_url="", service_token_file=Path("unused")
            )
        ),
        "analytics": analytics.build(AnalyticsSettings()),
    }
