"""Settings of the members service, on top of those every service has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Base64Bytes, Field, StringConstraints

from services.members.core.erasing import Rule
from services.shared.config.settings import AtLeastOne, Period, ServiceSettings
from services.shared.encryption import MasterKeys

RoleName = Annotated[str, StringConstraints(pattern="^[a-z][a-z_]{0,39}$")]
ROLES: Final = ("coordinator", "it_cell", "women_wing", "youth", "spokesperson")


class MembersSettings(ServiceSettings):
    service: str = "members"
    master_keys: MasterKeys
    """`{"<name>": "<base64 of 96 bytes>"}`: the first seals, the others still open what they sealed."""
    blind_index_key: Annotated[Base64Bytes, Field(min_length=32, max_length=32, repr=False)]
    """Base64 of 32 bytes. It cannot be rotated: every fingerprint of a phone depends on it."""
    taken_phones_burst: AtLeastOne = 100
    """Times that one caller (a token's subject) may be told at once, by one process, that a phone belongs to
    an active member. Then it can register nobody for a while (429)."""
    taken_phones_per_hour: AtLeastOne = 60
    """Times per hour that such a caller may be told so afterwards."""
    imports_welcome_per_hour: AtLeastOne = 10_000
    """New members per hour whom imports with `announce=welcome` welcome, all of them and all processes
    together. An import that would welcome more waits between its pages."""
    roles: Annotated[tuple[RoleName, ...], Field(min_length=1)] = ROLES
    """The roles that can be given, as a JSON list. One that is taken out stays with those who hold it."""
    minors_allowed: bool = False
    """Whether somebody from 13 to 17 may be registered, with the consent of a guardian on record (section 9
    of the DPDP Act 2023). A minor is whoever is not surely 18 by the year of birth. An import registers
    none."""
    erasure_rule: Rule = Rule.AT_ONCE
    """When the data of an erased member are destroyed: `at_once`, or `dpdp_rule_8_3` (sealed apart until the
    first anniversary of the request, as rule 8(3) of the Digital Personal Data Protection Rules 2025 asks,
    which apply from May 2027). An erasure keeps the rule under which it was requested."""
    erasure_again_seconds: Period = 3600.0
    """Seconds after which a request to erase is published again, while a service has not acknowledged it; the
    pause doubles each time, up to a day."""
    erasure_late_seconds: Period = 86_400.0
    """Seconds after which an erasure that a service has not acknowledged is overdue, which an alert tells."""
    left_contacts_days: AtLeastOne = 365
    """Days after which the contact of a member who left is destroyed."""
    groups_url: str | None = None
    """Base URL of the groups service, which tells dossiers what it holds. Without this or one of the next
    three, there are no dossiers (503)."""
    notifications_url: str | None = None
    """Base URL of the notifications service."""
    analytics_url: str | None = None
    """Base URL of the analytics service."""
    service_token_file: Path | None = None
    """A JWT with scope `holdings:read` and unit `*`; read again when the file changes."""
    grievance_days: Annotated[int, Field(ge=1, le=90)] = 90
    """Days within which a grievance is answered: at most 90 (rule 14 of the DPDP Rules 2025)."""
