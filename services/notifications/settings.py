"""Settings of the notifications service, on top of those every service has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from services.notifications.core.templates.prices import Price
from services.shared.config.settings import Seconds, ServiceSettings
from services.shared.encryption import MasterKeys

Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
NEEDS: Final = {
    "sms_gateway": (
        "exotel_account_sid",
        "exotel_api_key",
        "exotel_api_token",
        "exotel_header",
        "dlt_entity_id",
    ),
    "email_gateway": ("smtp_host", "smtp_from"),
    "whatsapp_gateway": (
        "whatsapp_phone_number_id",
        "whatsapp_account_id",
        "whatsapp_token",
        "whatsapp_app_secret",
    ),
}
"""Settings that a gateway cannot do without. Without the app secret, nobody's STOP would be heard."""
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
    sender: Literal["recording", "console", "gateways"] = "recording"
    """`recording` keeps each message, sealed, and sends nothing; `console` prints it, for development;
    `gateways` sends by the gateway of each channel. A channel without one is not used."""

    public_url: Annotated[str, Field(pattern=r"^(https?://[A-Za-z0-9.:-]+)?$", max_length=200)] = ""
    """URL at which this service's pages are reached from outside, such as `https://m.example.org`. E-mails
    have a link to stop them there. Empty: they have none."""

    sms_gateway: Literal["none", "exotel"] = "none"
    """The gateway for SMS, with sender `gateways`."""
    email_gateway: Literal["none", "smtp"] = "none"
    """The gateway for e-mail, with sender `gateways`."""
    whatsapp_gateway: Literal["none", "cloud_api"] = "none"
    """The gateway for WhatsApp, with sender `gateways`. The platform's policy bars political parties,
    candidates, campaigns and firms that serve them, so it is off unless you switch it on."""

    exotel_url: str = "https://api.in.exotel.com"
    """Base URL of Exotel's API."""
    exotel_account_sid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = ""
    """Account SID at Exotel."""
    exotel_api_key: SecretStr = SecretStr("")
    """API key of the Exotel account, a secret."""
    exotel_api_token: SecretStr = SecretStr("")
    """API token of the Exotel account, a secret."""
    exotel_header: Annotated[str, Field(max_length=20)] = ""
    """DLT header (sender id) or ExoPhone that SMS go from, unless the template names another."""
    exotel_bulk_from: Annotated[int, Field(ge=0, le=20)] = 5
    """Messages of one template and header from which they go to Exotel in one call; 0 is never. Exotel takes
    about 50 such calls a minute."""
    exotel_callback_url: SecretStr = SecretStr("")
    """URL that Exotel tells of each message's status, a secret: the token in it is the only proof of who
    calls. Empty: messages are polled alone."""
    dlt_entity_id: Annotated[str, Field(max_length=32)] = ""
    """Principal entity id of the organisation in the DLT registers."""
    dlt_value_characters: Annotated[int, Field(ge=1, le=200)] = 30
    """Characters that a value may have in each `{#var#}` of a text registered with DLT: 30 by custom."""

    smtp_host: str = ""
    """Host of the SMTP server."""
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 587
    """Port of the SMTP server."""
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    """Protection of the connection: `starttls` insists on it, `tls` begins with it (port 465); `none` is for
    development."""
    smtp_username: str = ""
    """User name at the SMTP server. Empty: no login."""
    smtp_password: SecretStr = SecretStr("")
    """Password at the SMTP server, a secret."""
    smtp_from: Annotated[str, Field(max_length=254)] = ""
    """Address that e-mails come from."""
    smtp_from_name: Annotated[str, Field(max_length=100)] = ""
    """Name beside that address."""

    whatsapp_url: str = "https://graph.facebook.com"
    """Base URL of Meta's Graph API."""
    whatsapp_api_version: Annotated[str, Field(pattern=r"^v\d{1,3}\.\d{1,2}$")] = "v26.0"
    """Version of the Graph API."""
    whatsapp_phone_number_id: Annotated[str, Field(pattern=r"^\d{0,32}$")] = ""
    """Meta's id of the number that messages go from."""
    whatsapp_account_id: Annotated[str, Field(pattern=r"^\d{0,32}$")] = ""
    """Meta's id of the WhatsApp business account, by which its callbacks name it."""
    whatsapp_token: SecretStr = SecretStr("")
    """Access token of a system user with `whatsapp_business_messaging`, a secret."""

    sms_per_second: Rate = 3.0
    """SMS per second from one number, by all processes together. Exotel takes about 200 calls a minute."""
    email_per_second: Rate = 10.0
    """E-mails per second from one address, by all processes together."""
    whatsapp_per_second: Rate = 80.0
    """WhatsApp messages per second from one number, by all processes together. Meta's limit is 80."""
    handover_chunk: Annotated[int, Field(ge=1, le=20)] = 20
    """Messages that are marked as handed over before a gateway gets them. If the process dies then, it is not
    known of as many whether they went."""
    outcome_hours: Annotated[float, Field(gt=0, le=168)] = 24.0
    """Hours for which a message whose outcome is unknown waits for a callback or a poll. Then it counts as
    failed, `outcome_unknown`."""
    poll_minutes: Annotated[float, Field(gt=0, le=1440)] = 15.0
    """Minutes after which a gateway is asked about a message that it has not told the end of; doubles each
    time."""

    message_prices: Annotated[tuple[Price, ...], Field(max_length=200)] = ()
    """Prices of messages for previews, as a JSON list: `[{"channel": "sms", "since": "2026-01-01", "amount":
    "0.15"}]`; of SMS for each part. `category` is optional. No price: no cost is shown."""
    price_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "INR"
    """Currency of these prices (ISO 4217)."""

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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse a gateway without what it needs, and gateways that nothing would be sent by."""
        chosen = {name: getattr(self, name) for name in NEEDS if getattr(self, name) != "none"}
        if chosen and self.sender != "gateways":
            raise ValueError(f"{', '.join(chosen)} has no effect: set sender to gateways")
        for name, gateway in chosen.items():
            if missing := [needed for needed in NEEDS[name] if not _given(getattr(self, needed))]:
                raise ValueError(f"{name}={gateway} needs {', '.join(missing)}")
        return self


def _given(value: str | SecretStr | None) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)
