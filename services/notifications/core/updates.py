"""Updates: all that a provider tells of messages, recipients and templates, whatever its format. Pure.

A channel's parser answers these; who applies them knows no provider. Personal fields are not in the repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from services.notifications.core.domain import Meaning


class Delivery(StrEnum):
    """How far a message has come, by its provider. It never goes back: see `rank`."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"

    @property
    def rank(self) -> int:
        """A later status outranks an earlier one. `FAILED` outranks only `QUEUED` and `SENT`: what has been
        delivered was not undelivered."""
        return (Delivery.QUEUED, Delivery.SENT, Delivery.FAILED, Delivery.DELIVERED, Delivery.READ).index(
            self
        )


@dataclass(frozen=True, slots=True)
class Callback:
    """A request of a provider as it came: the raw body, and its headers in lower case."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that a poll asks about: its reference, the provider's id of it (None where the outcome of
    sending is unknown), and when it is asked."""

    reference: str
    provider_id: str | None
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the channel knows them. Either may be missing: on WhatsApp the business-scoped `user_id` is
    the key, and the phone number may be withheld."""

    phone: str | None = field(default=None, repr=False)
    user_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """A message has come so far. `reference` is our id of it, if the provider gives it back. `code` is the
    provider's word or number for an error, and `meaning` what it asks of us."""

    provider_id: str | None
    reference: str | None
    status: Delivery
    at: datetime
    code: str | None = None
    meaning: Meaning | None = None
    error_class: str | None = None
    person: Person = Person()
    category: str | None = None
    """The price category, as the provider names it."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A person has written, pressed a button or called. `text` is the whole message or the button's title;
    `payload` is what we have given the button; `answers` is the provider's id of the message answered.
    `to` is the number of ours that it came to: a missed call to one means to join, to another to stop."""

    provider_id: str
    person: Person
    at: datetime
    to: str | None = None
    text: str | None = field(default=None, repr=False)
    payload: str | None = field(default=None, repr=False)
    answers: str | None = None
    missed_call: bool = False


@dataclass(frozen=True, slots=True)
class IdentityChanged:
    """A person's number or business-scoped id is another one now."""

    provider_id: str
    person: Person
    previous_user_id: str | None
    at: datetime
    previous_phone: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PreferenceChanged:
    """A person has stopped (or resumed) messages of a category at the provider."""

    person: Person
    category: str
    stopped: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a template, a number or the account: `subject` is the template's name, or the account.
    `state` is a word of the provider's list; `meaning` is `TEMPLATE` or `CHANNEL` if it must stop, None if it
    may go on."""

    subject: str
    state: str
    at: datetime
    meaning: Meaning | None = None
    language: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LimitTold:
    """How many people our account may reach in any 24 hours, as the provider has decided; None for no
    limit."""

    recipients: int | None
    at: datetime


Update: TypeAlias = Report | Inbound | IdentityChanged | PreferenceChanged | Notice | LimitTold
