"""Settings of the notifications service, on top of those every service has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from services.shared.config.settings import Seconds, ServiceSettings
from services.shared.encryption import MasterKeys

Secret = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,200}$")]
"""At least 16 letters, all of which a URL carries as they are."""
GatewayName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
PhoneNumber = Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{3,15}$")]


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

    welcome_days: Annotated[float, Field(gt=0, le=3650)] = 30.0
    """Days for which a welcome may wait for what it lacks, such as an invite link. Then it goes no more."""
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

    whatsapp_app_secret: Secret | None = Field(default=None, repr=False)
    """App secret that signs WhatsApp's callbacks, a secret. Unset: they are answered 404."""
    whatsapp_verify_token: Secret | None = Field(default=None, repr=False)
    """Token, a secret, by which WhatsApp's challenge is known when the callback's URL is registered. Unset:
    the challenge is answered 404."""
    sms_callback_secrets: Annotated[
        dict[GatewayName, Secret], Field(default_factory=dict, max_length=8, repr=False)
    ]
    """Secrets in the URLs of callbacks of SMS gateways, which sign nothing: `{"exotel": "..."}`, a secret.
    Random, and at least 16 letters. A gateway without one is answered 404."""
    stop_numbers: Annotated[tuple[PhoneNumber, ...], Field(max_length=32)] = ()
    """Telephone numbers of ours, as a JSON list: a missed call to one of them is a STOP."""
    join_numbers: Annotated[tuple[PhoneNumber, ...], Field(max_length=32)] = ()
    """Telephone numbers of ours, as a JSON list: a missed call to one of them asks to join."""
    callback_batch: Annotated[int, Field(ge=1, le=1000)] = 200
    """Stored callbacks of providers that a process claims at once."""
    callback_claim_seconds: Annotated[float, Field(ge=0.1)] = 60.0
    """Seconds that they belong to the process that claimed them: after a crash, another takes over then."""
    callback_body_megabytes: Annotated[int, Field(ge=8, le=4096)] = 64
    """Megabytes of callbacks' bodies that a process holds while they are received; above, it answers 503. Who
    sends them is known only when they have come."""
