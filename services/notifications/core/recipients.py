"""Recipients: members as the events of two topics describe them, in whatever order these arrive. Pure.

Each group of fields is kept with the sequence of the event it came from, and only a later event replaces it.
So a repeated or stale event changes nothing, and any interleaving ends in the same `Recipient`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.shared.contracts.base import Event
from services.shared.contracts.groups import GroupMemberAssigned, GroupMemberRemoved, PlacementSnapshot
from services.shared.contracts.members import TOPIC as MEMBERS
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberRolesChanged,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A member as far as messages are concerned.

    `placement_sequence` counts events of the groups topic, the other sequences those of the members topic.
    """

    member_id: str
    joined: bool = False
    """Whether their `member.joined` was heard: only that makes a welcome."""
    found: bool = False
    """Whether a snapshot described them: they are a member, but joined at some other time."""
    active: bool = True
    """False for good once the member left: a person who joins again is a new member."""
    erased: bool = False
    """Whether they asked to be erased; they are never active again."""
    unit: str = ""
    unit_sequence: int = 0
    language: str = ""
    language_sequence: int = 0
    own_number: bool = True
    """False for a member who is reached through another one. It is from the event that `language` is from."""
    adult: bool | None = None
    """Whether the member is surely 18, as the last event said that told; False for who may be a minor."""
    adult_sequence: int = 0
    channels: tuple[str, ...] = ()
    """The channels that the events say were consented to: without one, no message is made."""
    consent_sequence: int = 0
    """The change of consent that `channels` are from; 0 while none was heard."""
    announced: bool = True
    """False for a member who came with an import that announced nothing: they get no welcome."""
    group_id: str | None = None
    placement_sequence: int = 0
    merged: bool = False
    """Whether another member stands for this one."""
    merged_sequence: int = 0
    welcomed: bool = False
    """Whether the person had a welcome, or is past it, as another member: then this one gets none."""

    @property
    def introduced(self) -> bool:
        """Whether their consents are known; nothing can be decided about a message to them before."""
        return self.joined or self.found

    def heard(self, topic: str) -> int:
        """The highest sequence known from the topic's events about this member. The unit's is the newest of
        the members topic: every event with a sequence states it."""
        return self.unit_sequence if topic == MEMBERS else self.placement_sequence


def learn(known: Recipient, event: Event, sequence: int) -> Recipient:
    """`known` with what `event` adds; unchanged when the event is stale, repeated or of no interest."""
    match event:
        case MemberJoined():
            heard = _described(known, event, sequence)
            # A member joins once, so of two one is a mistake. Neither takes back a consent that the other
            # tells of: the members service decides about it in the end. A change of consent came later.
            told = known.channels if known.joined else ()
            channels = known.channels if known.consent_sequence else told or event.channels
            announced = (known.joined and known.announced) or event.announced
            after = replace(heard, joined=True, channels=channels, announced=announced)
        case MemberUpdated():
            after = _described(known, event, sequence)
        case MemberMoved() | MemberRolesChanged():
            after = _in_unit(known, event.unit, sequence)
        case MemberConsentChanged():
            heard = _consenting(_in_unit(known, event.unit, sequence), event.channels, sequence)
            after = replace(heard, welcomed=heard.welcomed or not event.announced)
        case MemberLeft():
            after = replace(known, active=False)
        case MemberMerged():
            heard = _described(known, event, sequence)
            after = _merged(heard, sequence, merged=True)
        case MemberUnmerged():
            heard = _described(known, event, sequence)
            heard = _consenting(heard, event.channels, sequence)
            after = replace(_merged(heard, sequence, merged=False), welcomed=True)
        case MemberErasureRequested():
            after = _erased(_in_unit(known, event.unit, sequence), sequence)
        case MemberSnapshot():
            after = _found(known, event, sequence)
        case GroupMemberAssigned(rule="general") | PlacementSnapshot():  # other groups are not welcomed to
            after = _placed(known, event.group_id, sequence)
        case GroupMemberRemoved(rule="general"):
            # The removal from a seat may be reported after the next seat was taken; that one stays.
            stays = known.group_id if known.group_id != event.group_id else None
            after = _placed(known, stays, sequence)
        case _:
            after = known
    return after


def _erased(known: Recipient, sequence: int) -> Recipient:
    """Without language, age and channels. The sequences stay, so that a late event does not bring them
    back."""
    newest = max(sequence, known.language_sequence, known.consent_sequence, known.adult_sequence)
    return replace(
        known,
        active=False,
        erased=True,
        language="",
        language_sequence=newest,
        adult=None,
        adult_sequence=newest,
        channels=(),
        consent_sequence=newest,
        group_id=None,
    )


def _found(known: Recipient, event: MemberSnapshot, sequence: int) -> Recipient:
    heard = _described(known, event, sequence)
    merged = event.merged_into is not None
    left = event.status != "active" and not merged
    heard = replace(_merged(heard, sequence, merged=merged), active=heard.active and not left)
    newer = heard.consent_sequence > sequence
    if heard.joined:
        channels = heard.channels if newer else heard.channels or event.channels
        return replace(heard, channels=channels, announced=heard.announced or event.announced)
    channels = heard.channels if newer else event.channels
    return replace(heard, found=True, channels=channels, announced=event.announced)


def _in_unit(known: Recipient, unit: str, sequence: int) -> Recipient:
    return replace(known, unit=unit, unit_sequence=sequence) if sequence > known.unit_sequence else known


def _described(
    known: Recipient,
    event: MemberJoined | MemberUpdated | MemberSnapshot | MemberMerged | MemberUnmerged,
    sequence: int,
) -> Recipient:
    """With the unit, the language, whether there is a number and, if it tells, whether the member is an
    adult, as an event states them that has all."""
    heard = _in_unit(known, event.unit, sequence)
    if event.adult is not None and sequence > heard.adult_sequence:
        heard = replace(heard, adult=event.adult, adult_sequence=sequence)
    if sequence <= heard.language_sequence:
        return heard
    return replace(heard, language=event.language, own_number=event.own_number, language_sequence=sequence)


def _consenting(known: Recipient, channels: tuple[str, ...], sequence: int) -> Recipient:
    if sequence <= known.consent_sequence:
        return known
    return replace(known, channels=channels, consent_sequence=sequence)


def _merged(known: Recipient, sequence: int, *, merged: bool) -> Recipient:
    if sequence <= known.merged_sequence:
        return known
    return replace(known, merged=merged, merged_sequence=sequence)


def _placed(known: Recipient, group_id: str | None, sequence: int) -> Recipient:
    if sequence <= known.placement_sequence:
        return known
    return replace(known, group_id=group_id, placement_sequence=sequence)
