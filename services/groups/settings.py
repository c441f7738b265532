"""Settings of the groups service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services.shared.config.settings import Period, ServiceSettings


class GroupsSettings(ServiceSettings):
    service: str = "groups"
    group_capacity: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Seats of a new general group while no placement policy was put in force. A WhatsApp group takes 1,024
    members (WhatsApp Help Center, "group limits")."""
    waiting_room_seconds: Period = 5.0
    """Seconds between looks at members who wait for their unit, if this process has not created it itself."""
    placement_audit_seconds: Annotated[float, Field(ge=60, le=30 * 86_400)] = 86_400.0
    """Seconds between two comparisons of all placements with the placement policy."""
