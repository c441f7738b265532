"""From a claimed notification to the message that is sent, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
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
    SUPPRESSED,
    Authority,
    Ruling,
    Verdict,
    facts_asked,
    facts_heard,
    facts_of_service,
    judge,
)
from services.notifications.core.templates.catalogue import consent_of, is_test
from services.notifications.core.templates.domain import Unfit
from services.notifications.core.templates.grammar import UnrenderableError
from services.notifications.core.texts import Texts
from services.shared.contracts.vocabulary import in_subtree

NO_CONSENT: Final = "no_consent"
LOOK_AGAIN: Final = timedelta(seconds=30)
"""The pause when another service's answer contradicts the events: the one that explains it is on its way."""
LOOK_FOR_ADDRESS: Final = timedelta(hours=1)
"""An event tells of an address that is added, but may have come just before it was found missing."""
UNKNOWN_MEMBER: Final = "unknown_member"
"""Members commits before it publishes, so a member whom it does not know was made up, or has been lost."""


class Composer:
    """`senders` has the name of each channel's sender; a channel without one is not used. On the channels of
    `approving`, only approved templates go."""

    def __init__(self, texts: Texts, senders: Mapping[str, str], approving: Collection[str] = ()) -> None:
        self._texts = texts
        self._senders = senders
        self._approving = approving

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
        """The message, or the reason why there is none, by what the owners of the facts say now.

        A channel on which the text cannot go is passed over, as one that cannot be reached; if there is no
        other, the message waits until a template changes.
        """
        tested = contact if is_test(notification.template) else None
        if tested is not None and (refused := _no_test(notification, tested, suppressed)):
            return refused
        unfit: dict[str, Unfit] = {}
        while True:
            reachable = self._senders.keys() - unfit.keys()
            made = self._compose(notification, recipient, contact, group, now, suppressed, reachable)
            if isinstance(made, _NoText):
                unfit[made.channel] = made.reason
            elif unfit and isinstance(made, Held | NoWay):  # no other way: this one may become free
                return Held(next(iter(unfit.values())).value, now + LOOK_FOR_ADDRESS)
            else:
                return made

    def _compose(
        self,
        notification: Notification,
        recipient: Recipient,
        contact: Contact | None,
        group: Group | None,
        now: datetime,
        suppressed: frozenset[str],
        reachable: Set[str],
    ) -> Message | DispatchResult | _NoText:
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
        ways = (contact.channels & reachable) - {each.channel for each in avoided}
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
    ) -> Message | DispatchResult | _NoText:
        address = contact.address(channel) if channel else None
        # The policy allowed it, so these are there.
        assert channel is not None
        assert address is not None
        text_name = f"{notification.template}_{without}" if without else notification.template
        values: dict[str, str | Mapping[str, str]] = {"name": contact.name}
        if group is not None:
            values["group"] = group.names
            if group.invite_link is not None:
                values["link"] = group.invite_link
        try:
            approved = channel in self._approving
            made = self._texts.compose(text_name, recipient.language, channel, values, approved=approved)
        except UnrenderableError:
            language = self._texts.language_for(text_name, recipient.language)
            outcome = SendOutcome(OutcomeClass.PERMANENT, "template_error")
            return Attempted(outcome, self._senders[channel], channel, language, contact.unit)
        if isinstance(made, Unfit):
            return _NoText(channel, made)
        return Message(
            id=notification.id,
            member_id=notification.member_id,
            channel=channel,
            language=made.language,
            unit=contact.unit,
            address=address,
            text=made.text,
            approved=made.approved,
            subject=made.subject,
            html=made.html,
            purpose=notification.purpose,
            without=without,
        )


@dataclass(frozen=True, slots=True)
class _NoText:
    """No text can go on this channel."""

    channel: str
    reason: Unfit


def _no_test(
    notification: Notification, contact: Contact, suppressed: frozenset[str]
) -> DispatchResult | None:
    """A test goes as a service message does, but only to somebody who would get the text itself."""
    channel = notification.channel or ""
    purpose = consent_of(notification.purpose, notification.template)
    if channel in suppressed:
        return Suppressed(SUPPRESSED, channel, contact.unit)
    if contact.consents is not None and channel not in contact.consented(purpose):
        return Suppressed(NO_CONSENT, channel, contact.unit)
    return None


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
