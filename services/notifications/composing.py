"""From a claimed notification to the message that is sent, or to the reason why there is none."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from services.notifications.domain import (
    Notification,
    Outcome,
    OutcomeClass,
    Postponed,
    Refused,
    Result,
    Tried,
)
from services.notifications.gate import Facts, Ruling, Verdict, judge
from services.notifications.peers import Contact, Group
from services.notifications.recipients import Recipient
from services.notifications.senders.base import Message
from services.notifications.texts import Texts, UnrenderableError, in_language

LOOK_AGAIN: Final = timedelta(seconds=30)
"""When the peers' answers contradict what we heard: the event that explains it is on its way and will decide."""


class Composer:
    """`sender` is named in the attempt of what cannot even be rendered."""

    def __init__(self, texts: Texts, sender: str) -> None:
        self._texts = texts
        self._sender = sender

    def refusal(self, notification: Notification, recipient: Recipient, now: datetime) -> Result | None:
        """What the gate says before anybody's address is asked for; None when it lets the notification pass."""
        facts = Facts(
            active=recipient.active,
            consented=recipient.channels,
            addressable=None,
            group_id=recipient.group_id,
            invited=notification.held_for is None,
        )
        return _unless_passed(judge(facts), now)

    def compose(
        self,
        notification: Notification,
        recipient: Recipient,
        contact: Contact | None,
        group: Group | None,
        now: datetime,
    ) -> Message | Result:
        if contact is None:
            return Postponed(now + LOOK_AGAIN)
        facts = Facts(
            active=recipient.active and contact.active,
            consented=recipient.channels,
            addressable=contact.channels,
            group_id=recipient.group_id,
            invited=group is not None and group.invite_link is not None,
        )
        verdict = judge(facts)
        if refusal := _unless_passed(verdict, now):
            return refusal
        return self._message(notification, recipient, contact, group, verdict.channel)

    def _message(
        self,
        notification: Notification,
        recipient: Recipient,
        contact: Contact,
        group: Group | None,
        channel: str | None,
    ) -> Message | Result:
        address = contact.address(channel) if channel else None
        # The gate passed, so these are there.
        assert channel is not None
        assert address is not None
        assert group is not None
        assert group.invite_link is not None
        language = self._texts.language_for(notification.template, recipient.language)
        try:
            values = {
                "name": contact.name,
                "group": in_language(group.names, language),
                "link": group.invite_link,
            }
            text = self._texts.render(notification.template, language, values)
        except UnrenderableError:
            outcome = Outcome(OutcomeClass.PERMANENT, "template_error")
            return Tried(outcome, self._sender, channel, language)
        return Message(notification.id, notification.member_id, channel, language, address, text)


def _unless_passed(verdict: Verdict, now: datetime) -> Result | None:
    match verdict.ruling:
        case Ruling.ALLOW:
            return None
        case Ruling.HOLD:
            return Postponed(now + LOOK_AGAIN)
        case Ruling.SUPPRESS:
            return Refused(verdict.reason or "unknown", verdict.channel)
