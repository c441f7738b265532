"""Identities: whom a channel's own id of a person belongs to, as far as that is sure. Pure.

On WhatsApp a person is an id of their business account with us; the phone number may be withheld, and both
may change. An id belongs to a member when a message to that member was answered or reported under it, or when
its number is the one that we write to. Two things are never guessed: an id that seems to be of two members
stays with the first, and of two ids that seem to be of one member the second is of nobody, unless the channel
itself says that it follows the first: numbers are handed to other people, and a stranger must not speak for a
member (chatwoot, pull request 15614).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

MOST_HISTORY: Final = 20


@dataclass(frozen=True, slots=True)
class Earlier:
    """An identity as it was until `until`: its id, and the fingerprint of its number."""

    user_id: str
    phone: str | None
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    id: str
    channel: str
    account: str
    user_id: str
    member_id: str | None = None
    phone: str | None = None
    """The fingerprint of the number, None while the channel withholds it."""
    rivals: bool = False
    """Whether it seemed to belong to somebody else too, or somebody else to it."""
    followed_by: str | None = None
    """The user id that this one has become."""
    history: tuple[Earlier, ...] = ()
    at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """A person as one update shows them: their id, maybe a number, maybe the member that they are."""

    user_id: str
    at: datetime
    phone: str | None = None
    member_id: str | None = None


def identity_id(channel: str, account: str, user_id: str) -> str:
    return f"{channel}:{account}:{user_id}"


def learn(
    known: Identity | None, seen: Seen, others: Sequence[Identity], channel: str, account: str
) -> Identity:
    """The identity after `seen`. `others` are those that belong to the member seen."""
    before = known or Identity(
        id=identity_id(channel, account, seen.user_id),
        channel=channel,
        account=account,
        user_id=seen.user_id,
        at=seen.at,
    )
    after = before
    if seen.phone is not None and before.phone is None:
        after = replace(after, phone=seen.phone)
    if seen.member_id is None or seen.member_id == before.member_id:
        return after
    taken = any(
        other.id != before.id and other.followed_by is None and other.account == account for other in others
    )
    if before.member_id is not None or taken:
        return replace(after, rivals=True)
    return replace(after, member_id=seen.member_id)


def follow_change(
    previous: Identity | None, current: Identity | None, changed: Seen, channel: str, account: str
) -> tuple[Identity, Identity | None]:
    """The identity as it is after the channel has told of a change, and the previous one if that is another:
    the member stays. A change that is older than what is known changes nothing of the number."""
    of = previous or current
    if of is None:
        return learn(None, changed, (), channel, account), None
    made = current or replace(of, id=identity_id(channel, account, changed.user_id), user_id=changed.user_id)
    if previous is not None and previous.user_id != changed.user_id:
        made = replace(
            made,
            member_id=made.member_id or previous.member_id,
            phone=changed.phone or made.phone or previous.phone,
            rivals=made.rivals or previous.rivals,
            history=_with(made.history, Earlier(previous.user_id, previous.phone, changed.at)),
            followed_by=None,
            at=changed.at,
        )
        return made, replace(previous, followed_by=changed.user_id)
    if changed.phone is None or changed.phone == made.phone or changed.at < made.at:
        return made, None
    earlier = Earlier(made.user_id, made.phone, changed.at)
    return replace(made, phone=changed.phone, history=_with(made.history, earlier), at=changed.at), None


def _with(history: Sequence[Earlier], earlier: Earlier) -> tuple[Earlier, ...]:
    if any(each.user_id == earlier.user_id and each.phone == earlier.phone for each in history):
        return tuple(history)
    return (*history, earlier)[-MOST_HISTORY:]


def whose(of_id: str | None, of_answer: str | None, of_phone: str | None) -> tuple[str | None, bool]:
    """The member who has written, by what their id, the message answered and their number say; and whether
    these contradict each other, when it is nobody."""
    said = {each for each in (of_id, of_answer, of_phone) if each is not None}
    return (said.pop(), False) if len(said) == 1 else (None, bool(said))
