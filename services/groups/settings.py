"""Settings of the groups service."""

from __future__ import annotations

from services.shared.config.settings import ServiceSettings


class GroupsSettings(ServiceSettings):
    service: str = "groups"
    group_capacity: int = 1024
    """Seats of a new group. 1,024 is the most members a WhatsApp group takes (WhatsApp Help Center, "group limits")."""
    waiting_room_seconds: float = 5.0
    """How often members who wait for their unit are looked at when nothing hints that one has come."""
