"""Vocabulary that several services share, and the bounds of every kind of field that an event may have.

Events carry open vocabularies as words of a form, not of a list, so that an older consumer can read a newer
word. A bound is beyond what an honest publisher reaches, and short of what a consumer could not bear: sums of
100,000 groups stay far below MongoDB's 2^63.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, FailFast, Field, StringConstraints, WithJsonSchema


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
    """Purposes that a member consents to. `membership` is being on the roll; `group` is being in a chat
    group, where all others see one's number."""

    WELCOME = "welcome"
    BROADCAST = "broadcast"
    REMINDER = "reminder"
    MEMBERSHIP = "membership"
    GROUP = "group"


class GroupKind(StrEnum):
    """Kinds of chat groups: for everybody of a unit, for women who asked for one, and for holders of
    roles."""

    GENERAL = "general"
    WOMEN = "women"
    IT_CELL = "it_cell"
    COORDINATORS = "coordinators"


class UnitLevel(StrEnum):
    """Levels that a tree of units has as shipped, from the root; a unit code has as many segments as its
    level is deep. The levels of a tree are data of groups: an organisation may have others."""

    STATE = "state"
    DISTRICT = "district"
    BLOCK = "block"
    BOOTH = "booth"


LEVELS = tuple(UnitLevel)
MAX_LEVELS: Final = 8
ShippedLevel = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "enum": [level.value for level in LEVELS],
            "description": "One of the levels as shipped; a tree with levels of its own has its own words.",
        }
    ),
]
"""A level in an answer: callers of the first release know this list; a tree of its own has other words."""

UnitCode = Annotated[
    str, StringConstraints(pattern=r"^[A-Z0-9]{1,12}(-[A-Z0-9]{1,12}){0,7}$", max_length=103)
]
"""Its segments are at most `MAX_LEVELS`; how many a tree has, its levels say."""
EventUnit = UnitCode
"""A unit code in an event."""

UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
"""The canonical form of an id (RFC 9562, 4): lower case, so that one thing has one id."""
Id = Annotated[str, StringConstraints(pattern=f"^{UUID}$")]

Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
"""A word of an open vocabulary: a kind, a state, a reason, a channel."""
Words = Annotated[tuple[Word, ...], Field(max_length=32), FailFast()]
LanguageCode = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")]
"""A language tag (RFC 5646), such as `hi`."""
PlaceNames = Annotated[
    dict[LanguageCode, Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(max_length=32)
]
"""Names of a place by language code; people's names are in no event."""

Constituency = Annotated[int, Field(ge=1, le=9999)]
"""The number of an assembly constituency; the largest state has 403."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Ordinal = Annotated[int, Field(ge=1, le=1_000_000)]
Seats = Annotated[int, Field(ge=1, le=1_000_000)]
"""The capacity of a group; the API takes at most 100,000."""
Attempts = Annotated[int, Field(ge=0, le=1_000_000)]
MAX_SEQUENCE: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps (RFC 8259, 6)."""
Sequence = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD: Final = timedelta(minutes=5)
"""How far the clock of a publisher may be ahead of its reader's."""


class Past:
    """Marks a time that cannot lie ahead of its reader's clock by more than `MAX_AHEAD`."""


PastTime = Annotated[
    AwareDatetime,
    Past(),
    Field(ge=EARLIEST, description="From 2000 until now; at most 5 minutes ahead of the reader's clock."),
]
"""When something happened. `decode` compares it with the clock; a validator here costs twice the parsing."""


LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
"""In any zone, two days around it are still dates of Python and of BSON."""
AnyTime = Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST)]
"""When something begins or ends, which may lie ahead."""


def depth_of(code: str) -> int:
    """The segments of a code: `BR-SRN` -> 2."""
    return code.count("-") + 1


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
