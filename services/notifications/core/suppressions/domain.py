"""The suppression list: who has stopped messages to an address, and who has lifted that. Pure.

An entry is about an address on a channel, not about a member, so it outlives leaving, merging and erasure.
Only an act from that very address lifts it; an entry that was only inferred from an error of a gateway may
also be lifted by somebody who has looked at it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.shared.contracts.vocabulary import Purpose

STOP_WORD: Final = "stop"
BUTTON: Final = "button"
MISSED_CALL: Final = "missed_call"
UNSUBSCRIBE: Final = "unsubscribe"
PREFERENCE: Final = "preference"
"""A switch of the provider's own, such as WhatsApp's "stop marketing messages"."""
INFERRED: Final = "inferred"
"""A gateway's error says so, and the person has said nothing to us."""
START_WORD: Final = "start"
LOOKED_AT: Final = "looked_at"
VIAS: Final = (STOP_WORD, BUTTON, MISSED_CALL, UNSUBSCRIBE, PREFERENCE, INFERRED)

MESSAGES: Final[tuple[str, ...]] = (Purpose.WELCOME.value, Purpose.BROADCAST.value, Purpose.REMINDER.value)
"""The purposes that "stop" covers: messages to the person. Being on the roll and in a chat group are not."""
MARKETING: Final[tuple[str, ...]] = (Purpose.BROADCAST.value,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One address on one channel. `purposes` are those that are stopped; none if it was lifted."""

    id: str
    """`<channel>:<fingerprint>`"""
    channel: str
    purposes: tuple[str, ...]
    via: str
    at: datetime
    """When the last act happened, by the provider's clock."""
    stops: int = 0
    """How many times it was stopped, from nothing stopped."""
    member_id: str | None = None
    """The member whose address it was when it was stopped, if that is known; not after an erasure."""
    unit: str | None = None
    code: str | None = None
    """The gateway's error from which it was inferred."""
    changed_at: datetime

    @property
    def stopped(self) -> bool:
        return bool(self.purposes)

    def covers(self, purpose: str) -> bool:
        """Whether messages of this purpose are stopped: by a switch those that it names, else all."""
        return purpose in self.purposes if self.via == PREFERENCE else self.stopped

    @property
    def inferred(self) -> bool:
        return self.stopped and self.via == INFERRED


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody stopped messages (of `purposes`) to an address, or asked for them again."""

    id: str
    channel: str
    stops: bool
    purposes: tuple[str, ...]
    via: str
    at: datetime
    member_id: str | None = None
    unit: str | None = None
    code: str | None = None


def suppression_id(channel: str, fingerprint: str, via: str = STOP_WORD) -> str:
    """A provider's switch has an entry of its own: switching it back takes back nothing that was written."""
    return f"{channel}:{fingerprint}{'/switch' if via == PREFERENCE else ''}"


def entries_about(channel: str, fingerprint: str) -> tuple[str, str]:
    """The ids of all entries that an address can have."""
    return suppression_id(channel, fingerprint), suppression_id(channel, fingerprint, PREFERENCE)


def apply_act(before: Suppression | None, act: Act, now: datetime) -> Suppression | None:
    """The entry after the act; None if the act changes nothing.

    Acts may arrive late and in any order: the latest counts, and of two at the same moment the stop. What was
    inferred is no act of the person: their own outweighs it whatever its time, and it replaces none.
    """
    if before is None:
        return _made(act, now)
    if act.via == INFERRED:
        return None if before.stopped or act.at <= before.at else _after(before, act, now)
    if before.via != INFERRED and (act.at, act.stops) <= (before.at, before.stopped):
        return None
    return _after(before, act, now)


def _made(act: Act, now: datetime) -> Suppression:
    return Suppression(
        id=act.id,
        channel=act.channel,
        purposes=act.purposes if act.stops else (),
        via=act.via,
        at=act.at,
        stops=int(act.stops),
        member_id=act.member_id,
        unit=act.unit,
        code=act.code,
        changed_at=now,
    )


def _after(before: Suppression, act: Act, now: datetime) -> Suppression:
    begins = act.stops and (not before.stopped or before.via == INFERRED)
    return replace(
        before,
        purposes=act.purposes if act.stops else (),
        via=act.via,
        at=act.at,
        stops=before.stops + begins,
        member_id=act.member_id or before.member_id,
        unit=act.unit or before.unit,
        code=act.code,
        changed_at=now,
    )
