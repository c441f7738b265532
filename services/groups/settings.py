"""Settings of the groups service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.shared.config.settings import Period, ServiceSettings
from services.shared.encryption import MasterKeys


class GroupsSettings(ServiceSettings):
    service: str = "groups"
    master_keys: MasterKeys
    """Seal invite links and uploaded rosters. `{"<name>": "<base64 of 96 bytes>"}`: the first seals, the
    others still open what they sealed. Not the keys of other services."""
    group_capacity: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Seats of a new general group while no placement policy was put in force. A WhatsApp group takes 1,024
    members (WhatsApp Help Center, "group limits")."""
    waiting_room_seconds: Period = 5.0
    """Seconds between looks at members who wait for their unit, if this process has not created it itself."""
    placement_audit_seconds: Annotated[float, Field(ge=60, le=30 * 86_400)] = 86_400.0
    """Seconds between two comparisons of all placements with the placement policy."""
    members_url: str | None = None
    """Base URL of the members service, which tells whose the numbers of a roster are. Without this or the
    next, a roster may hold ids of members only (503 for numbers)."""
    service_token_file: Path | None = None
    """A JWT with scopes `members:match contacts:read removals:write` and unit `*`; read again when the
    file changes."""
    page_days: Annotated[float, Field(gt=0, le=365)] = 30.0
    """Days for which a link to the page of a group's admins works."""
    page_base_url: str = ""
    """Address under which admins reach this service, without the path; without it a link to a page is its
    path alone."""
    reinvite_days: Annotated[float, Field(gt=0, le=365)] = 3.0
    """Days that a member has to take an invite; whom a complete roster still does not show then is invited
    again, at most twice."""
