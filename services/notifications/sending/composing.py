"""From a claimed notification to the message that is sent, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.notifications.core.channel import Message
from services.notifications.core.clients.groups import Group
from services.notifications.core.clients.members import Contact
from services.notifications.core.clients.service import NOT_ASKED
from services.notifications.core.domain import (
    EXPIRED,
    LOOKED_AT_AGAIN,
    NO_GATEWAY,
    SERVICE,
    Attempted,
    Avoided,
    Deferred,
    DispatchResult,
    Held,
    Notification,
    NoWay,
    OutcomeClass,
    SendOutcome,
    Suppressed,
    Unanswered,
)
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import (
    NO_ADDRESS,
    NO_GROUP,
    NO_INVITE,
    Authority,
    Ruling,
    Verdict,
    facts_asked,
    facts_heard,
    facts_of_service,
    judge,
)
from services.notifications.core.texts import Texts, UnrenderableError, in_language
from services.shared.contracts.vocabulary import in_subtree

LOOK_AGAIN: Final = timedelta(seconds=30)
"""The pause when another service's answer contradicts the events: the one that explains it is on its way."""
LOOK_FOR_ADDRESS: Final = timedelta(hours=1)
"""An event tells of an address that is added, but may have come just before it was found missing."""
UNKNOWN_MEMBER: Final = "unknown_member"
"""Members commits before it publishes, so a member whom it does not know was made up, or has been lost."""


class Composer:
    """`senders` has the name of each channel's sender; a channel without one is not used."""

    def __init__(self, texts: Texts, senders: Mapping[str, str]) -> None:
        self._texts = texts
        self._senders = senders

    def check(self, notification: Notification, recipient: Recipient, now: datetime) -> DispatchResult | None:
        """Apply the send policy to what the events say; None when the members service has to be asked."""
        if notification.expires_at is not None and notification.expires_at <= now:
            return Suppressed(EXPIRED, notification.channel)
        invited = notification.held_for in (None, *LOOKED_AT_AGAIN)
        if notification.purpose == SERVICE:
            facts = facts_of_service(recipient, notification.channel or "")
        else:
            facts = facts_heard(notification.about(now), recipient, invited=invited)
        return _unless_allowed(judge(facts), now)

    def unanswered(self, peer: str, reason: str, now: datetime) -> DispatchResult:
        """`reason` is one of `Answers.failed`."""
        return Deferred(now + LOOK_AGAIN) if reason == NOT_ASKED else Unanswered(peer, reason)

    def compose(
        self,
        notification: Notification,
        recipient: Recipient,
        contact: Contact | None,
        group: Group | None,
        now: datetime,
        suppressed: frozenset[str] = frozenset(),
    ) -> Message | DispatchResult:
        """The message, or the reason why there is none, by what the owners of the facts say now. `suppressed`
        are the channels on which this contact's address is on the suppression list.

        A link, and the name of a group, go only to a member of the group's own unit or of one below it.
        Otherwise the event of a seat was forged, or the member has moved and the next seat is on its way.
        """
        if contact is None:
            return Unanswered("members", UNKNOWN_MEMBER)
        if contact.consents is None:
            return Deferred(now + LOOK_AGAIN)
        consented = contact.consented(notification.purpose)
        avoided = notification.avoids(now)
        ways = (contact.channels & self._senders.keys()) - {each.channel for each in avoided}
        said = Authority(contact.active, consented, ways, contact.own_number, suppressed)
        if group is not None and not in_subtree(contact.unit, group.unit):
            group = None
        if notification.purpose == SERVICE:
            facts = facts_of_service(recipient, notification.channel or "", said)
        else:
            invited = group is not None and group.invite_link is not None
            facts = facts_asked(notification.about(now), recipient, said, invited=invited)
        verdict = judge(facts)
        if verdict.ruling is Ruling.HOLD and verdict.reason == NO_ADDRESS:
            wanted = {notification.channel} if notification.purpose == SERVICE else consented - suppressed
            if addressed := contact.channels & wanted:
                failed = [each for each in avoided if each.channel in addressed]
                return _without_a_way(failed, contact.unit, now)
        if stopped := _unless_allowed(verdict, now, contact.unit):
            return stopped
        without = verdict.without and (NO_GROUP if group is None else NO_INVITE)
        return self._message(notification, recipient, contact, group, verdict.channel, without)

    def _message(
        self,
        notification: Notification,
        recipient: Recipient,
        contact: Contact,
        group: Group | None,
        channel: str | None,
        without: str | None,
    ) -> Message | DispatchResult:
        address = contact.address(channel) if channel else None
        # The policy allowed it, so these are there.
        assert channel is not None
        assert address is not None
        text_name = f"{notification.template}_{without}" if without else notification.template
        language = self._texts.language_for(text_name, recipient.language)
        values = {"name": contact.name}
        try:
            if group is not None:
                values["group"] = in_language(group.names, language)
                if group.invite_link is not None:
                    values["link"] = group.invite_link
            text = self._texts.render(text_name, language, values)
        except UnrenderableError:
            outcome = SendOutcome(OutcomeClass.PERMANENT, "template_error")
            return Attempted(outcome, self._senders[channel], channel, language, contact.unit)
        return Message(
            id=notification.id,
            member_id=notification.member_id,
            channel=channel,
            language=language,
            unit=contact.unit,
            address=address,
            text=text,
            purpose=notification.purpose,
            without=without,
        )


def _without_a_way(avoided: Sequence[Avoided], unit: str, now: datetime) -> DispatchResult:
    """There are consent and an address, but no gateway, or the channels have failed: the first of them that
    may be tried again is waited for."""
    if not avoided:
        return Held(NO_GATEWAY, now + LOOK_FOR_ADDRESS)
    again = [each.until for each in avoided if each.until is not None]
    return Deferred(min(again)) if again else NoWay(avoided[-1].error_class, unit)


def _unless_allowed(verdict: Verdict, now: datetime, unit: str | None = None) -> DispatchResult | None:
    match verdict.ruling:
        case Ruling.ALLOW:
            return None
        case Ruling.HOLD if verdict.reason == NO_ADDRESS:
            return Held(NO_ADDRESS, now + LOOK_FOR_ADDRESS)
        case Ruling.HOLD:
            return Deferred(now + LOOK_AGAIN)
        case Ruling.SUPPRESS:
            return Suppressed(verdict.reason or "unknown", verdict.channel, unit)
