"""Vocabulary that several services share. Events carry open vocabularies as plain strings, so that an older
consumer can read a newer word."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints


class Gender(StrEnum):
    """Self-declared; `undisclosed` is always possible."""

    FEMALE = "female"
    MALE = "male"
    OTHER = "other"
    UNDISCLOSED = "undisclosed"


class Language(StrEnum):
    """Languages of Bihar by their ISO 639 code: Hindi, English, Urdu, Bhojpuri, Maithili, Magahi."""

    HINDI = "hi"
    ENGLISH = "en"
    URDU = "ur"
    BHOJPURI = "bho"
    MAITHILI = "mai"
    MAGAHI = "mag"


class Platform(StrEnum):
    WHATSAPP = "whatsapp"
    FACEBOOK = "facebook"
    INSTAGRAM = "instagram"
    X = "x"
    YOUTUBE = "youtube"
    TELEGRAM = "telegram"
    SHARECHAT = "sharechat"


class Channel(StrEnum):
    """Ways to reach a member, in the order that a welcome prefers."""

    WHATSAPP = "whatsapp"
    SMS = "sms"
    EMAIL = "email"


class Purpose(StrEnum):
    """Purposes that a member consents to."""

    WELCOME = "welcome"
    BROADCAST = "broadcast"
    REMINDER = "reminder"


class GroupKind(StrEnum):
    GENERAL = "general"


class UnitLevel(StrEnum):
    """Levels of the tree of units, from the root; a unit code has as many segments as its level is deep."""

    STATE = "state"
    DISTRICT = "district"
    BLOCK = "block"
    BOOTH = "booth"


LEVELS = tuple(UnitLevel)

UnitCode = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,12}(-[A-Z0-9]{1,12}){0,3}$", max_length=51)]


def level_of(code: str) -> UnitLevel:
    """`BR-SRN` -> district."""
    return LEVELS[code.count("-")]


def parent_of(code: str) -> str | None:
    """`BR-SRN-MARHAURA` -> `BR-SRN`; the root has none."""
    return code.rpartition("-")[0] or None


def lineage(code: str) -> list[str]:
    """The unit's ancestors and the unit itself, from the root: `BR-SRN` -> `["BR", "BR-SRN"]`."""
    parts = code.split("-")
    return ["-".join(parts[: n + 1]) for n in range(len(parts))]


def subtree(code: str) -> dict[str, str]:
    """The MongoDB range that matches a unit and all units below it.

    `-` (0x2D) sorts just below `.` (0x2E), so the codes `X` and `X-...` are exactly those in `[X, X.)`: one
    indexed range, no regular expression.
    """
    return {"$gte": code, "$lt": code + "."}


def in_subtree(code: str, root: str) -> bool:
    return code == root or code.startswith(root + "-")
