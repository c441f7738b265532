"""Settings of the notifications service, on top of those every service has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from services.shared.config.settings import Seconds, ServiceSettings
from services.shared.encryption import MasterKeys


class NotificationsSettings(ServiceSettings):
    service: str = "notifications"
    master_keys: MasterKeys
    """Seal recorded messages. Not the keys of members."""
    members_url: str
    """Base URL of the members service, which resolves names and addresses."""
    groups_url: str
    """Base URL of the groups service, which resolves names of groups and invite links."""
    service_token_file: Path
    """A JWT with scopes `contacts:read groups:read invites:read` and unit `*`; read again when the file
    changes."""
    sender: Literal["recording", "console"] = "recording"
    """`recording` keeps each message, sealed, and sends nothing; `console` prints it, for development."""

    welcome_wait_hours: Annotated[float, Field(gt=0, le=8760)] = 24.0
    """Hours for which a welcome waits for a group and its invite link. Then it goes without, and an invite
    follows when they are there."""
    welcome_days: Annotated[float, Field(gt=0, le=3650)] = 30.0
    """Days for which a welcome may wait for anything, such as an address, and the invite that follows one for
    a link. Then it goes no more."""
    invite_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """The same for an invite that is sent again."""

    dispatch_batch: Annotated[int, Field(ge=1, le=500)] = 200
    """Notifications claimed at once; members and groups resolve at most 500 ids in a call."""
    claim_seconds: Annotated[float, Field(ge=0.1)] = 60.0
    """How long a batch belongs to the process that claimed it. Half of it is the deadline for sending; with
    less than 40 s, there may be no time to find an id about which members or groups does not answer."""
    send_tries: Annotated[int, Field(ge=1)] = 6
    """Tries in all before a message that may go through later counts as failed."""
    send_retry_seconds: Seconds = 30.0
    """Pause after the first try that may go through later; doubles each time, up to an hour."""
