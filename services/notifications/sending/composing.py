"""From a claimed notification to the message that is sent, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from services.notifications.core.channel import Message
from services.notifications.core.clients.groups import Group
from services.notifications.core.clients.members import Contact
from services.notifications.core.clients.service import NOT_ASKED
from services.notifications.core.domain import (
    DEFER,
    LOOKED_AT_AGAIN,
    Attempted,
    Decision,
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
from services.notifications.core.policies.domain import AS_SHIPPED, SERVICE, Policies
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import (
    NO_GROUP,
    NO_INVITE,
    REACHABILITY,
    RULES_VERSION,
    Authority,
    Circumstances,
    Ruling,
    Spent,
    Verdict,
    facts_asked,
    facts_heard,
    judge,
)
from services.notifications.core.templates.catalogue import UNSUBSCRIBE, consent_of, is_test
from services.notifications.core.templates.domain import Rendered, Unfit
from services.notifications.core.templates.grammar import UnrenderableError
from services.notifications.core.texts import Texts
from services.notifications.core.unsubscribing import UnsubscribeLinks
from services.shared.contracts.vocabulary import Channel, in_subtree

LOOK_AGAIN: Final = timedelta(seconds=30)
"""The pause when another service's answer contradicts the events: the one that explains it is on its way."""
LOOK_FOR_ADDRESS: Final = timedelta(hours=1)
"""An event tells of an address that is added, but may have come just before it was found missing."""
UNKNOWN_MEMBER: Final = "unknown_member"
"""Members commits before it publishes, so a member whom it does not know was made up, or has been lost."""
_VERDICTS: Final = {
    Ruling.ALLOW: "send",
    Ruling.DEFER: DEFER,
    Ruling.HOLD: "hold",
    Ruling.SUPPRESS: "suppress",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A notification with what the owners of the facts say about it now.

    `stopped` are the channels on which the contact's address is on the suppression list; `sent` what went to
    the person of late, as purposes and times; `spent` the channels whose budget has no place for them.
    `group` is None also for one whose unit is none of the member's: a link, and the name of a group, go only
    to a member of its own unit or of one below it. Otherwise the event of a seat was forged, or the member
    has moved and the next seat is on its way.
    """

    notification: Notification
    recipient: Recipient
    contact: Contact
    group: Group | None
    stopped: frozenset[str] = frozenset()
    sent: Sequence[tuple[str, datetime]] = ()
    spent: Mapping[str, Spent] = field(default_factory=dict)
    paired: Mapping[str, datetime] = field(default_factory=dict)
    certificate: str | None = None
    windows: frozenset[str] = frozenset()
    """Channels on which the person has written within a day: any text may go there."""

    @property
    def shown(self) -> Group | None:
        there = self.group is not None and in_subtree(self.contact.unit, self.group.unit)
        return self.group if there else None


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict about a notification, and the text with which it goes; None if it does not go, or its text
    cannot be rendered."""

    asked: Asked
    verdict: Verdict
    text: Rendered | None = None


class Composer:
    """`senders` has the name of each channel's sender; a channel without one is not used. On the channels of
    `approving`, only approved templates go."""

    def __init__(
        self,
        texts: Texts,
        senders: Mapping[str, str],
        approving: Collection[str] = (),
        links: UnsubscribeLinks | None = None,
    ) -> None:
        self._texts = texts
        self._links = links
        self._senders = senders
        self._approving = approving

    def check(
        self,
        notification: Notification,
        recipient: Recipient,
        now: datetime,
        policies: Policies = AS_SHIPPED,
    ) -> Verdict:
        """Apply the send policy to what the events say: it may go as far as they tell, or not."""
        invited = notification.held_for in (None, *LOOKED_AT_AGAIN)
        unit = recipient.unit or notification.unit
        circumstances = Circumstances(now, unit, policies, expires_at=notification.expires_at)
        about = notification.about(now)
        return judge(facts_heard(about, recipient, invited=invited, now=circumstances))

    def unanswered(self, peer: str, reason: str, now: datetime) -> DispatchResult:
        """`reason` is one of `Answers.failed`."""
        return Deferred(now + LOOK_AGAIN) if reason == NOT_ASKED else Unanswered(peer, reason)

    def judge(self, asked: Asked, now: datetime, policies: Policies, *, only: str | None = None) -> Judged:
        """Apply the send policy to what the owners of the facts say: for any channel, or for one alone.

        A channel on which the text cannot go is passed over. Which text goes depends on the rules before, so
        they judge again without that channel.
        """
        unusable: dict[str, str] = {}
        while True:
            verdict = self._verdict(asked, now, policies, only, unusable)
            if verdict.ruling is not Ruling.ALLOW or verdict.channel is None:
                return Judged(asked, verdict)
            try:
                text = self._text(asked, verdict, verdict.channel)
            except UnrenderableError:
                return Judged(asked, verdict)
            if isinstance(text, Rendered):
                return Judged(asked, verdict, text)
            unusable[verdict.channel] = text.value

    def compose(self, judged: Judged, now: datetime) -> Message | DispatchResult:
        """The message, or the reason why there is none."""
        asked, verdict, text = judged.asked, judged.verdict, judged.text
        notification, contact, channel = asked.notification, asked.contact, verdict.channel
        if stopped := unless_allowed(verdict, now, contact.unit):
            return stopped
        assert channel is not None  # the policy allowed it, so it and the address are there
        if text is None:
            language = self._texts.language_for(_text_name(asked, verdict), asked.recipient.language)
            outcome = SendOutcome(OutcomeClass.PERMANENT, "template_error")
            return Attempted(outcome, self._senders[channel], channel, language, contact.unit)
        address = contact.address(channel)
        assert address is not None
        return Message(
            id=notification.id,
            member_id=notification.member_id,
            channel=channel,
            language=text.language,
            unit=contact.unit,
            address=address,
            text=text.text,
            approved=text.approved,
            subject=text.subject,
            html=text.html,
            unsubscribe=self._unsubscribe(notification, channel),
            purpose=notification.purpose,
            without=_without(asked, verdict),
        )

    def _unsubscribe(self, notification: Notification, channel: str) -> str | None:
        """Nobody is asked to stop what answers them."""
        if self._links is None or channel != Channel.EMAIL or notification.purpose == SERVICE:
            return None
        return self._links.of(notification.id)

    def _verdict(
        self,
        asked: Asked,
        now: datetime,
        policies: Policies,
        only: str | None,
        unusable: Mapping[str, str],
    ) -> Verdict:
        notification, contact, group = asked.notification, asked.contact, asked.shown
        about = replace(notification.about(now), tested=is_test(notification.template))
        consented = contact.consented(consent_of(about.purpose, about.template))
        said = Authority(
            active=contact.active,
            consented=consented if only is None else consented & {only},
            addressable=contact.channels,
            own_number=contact.own_number,
            suppressed=asked.stopped,
            minor=contact.minor,
        )
        circumstances = Circumstances(
            now,
            contact.unit,
            policies,
            expires_at=notification.expires_at,
            certificate=asked.certificate,
            preferred=contact.preferred_channel,
            gateways=self._senders.keys(),
            failed=notification.avoids(now),
            sent=asked.sent,
            spent=asked.spent,
            paired=asked.paired,
            unusable=unusable,
        )
        invited = group is not None and group.invite_link is not None
        return judge(facts_asked(about, asked.recipient, said, invited=invited, now=circumstances))

    def _text(self, asked: Asked, verdict: Verdict, channel: str) -> Rendered | Unfit:
        """Raises: `UnrenderableError`."""
        group = asked.shown
        values: dict[str, str | Mapping[str, str]] = {
            "name": asked.contact.name,
            UNSUBSCRIBE: self._unsubscribe(asked.notification, channel) or "",
        }
        if group is not None:
            values["group"] = group.names
            if group.invite_link is not None:
                values["link"] = group.invite_link
        name, language = _text_name(asked, verdict), asked.recipient.language
        made = self._texts.compose(name, language, channel, values, approved=channel in self._approving)
        if isinstance(made, Unfit) and channel in asked.windows:
            made = self._texts.compose(name, language, channel, values, approved=False)
        return made


def _without(asked: Asked, verdict: Verdict) -> str | None:
    return verdict.without and (NO_GROUP if asked.shown is None else NO_INVITE)


def _text_name(asked: Asked, verdict: Verdict) -> str:
    without, template = _without(asked, verdict), asked.notification.template
    return f"{template}_{without}" if without else template


def decision_of(verdict: Verdict, policies: Policies, at: datetime) -> Decision:
    """The verdict as it is kept with the notification."""
    decisive = verdict.decisive
    allowed = verdict.ruling is Ruling.ALLOW
    return Decision(
        at=at,
        verdict=_VERDICTS[verdict.ruling],
        rule=None if allowed else decisive.rule,
        reason=None if allowed else decisive.reason,
        channel=verdict.channel,
        until=verdict.until,
        rules=RULES_VERSION,
        policy=policies.version,
    )


def unless_allowed(verdict: Verdict, now: datetime, unit: str | None = None) -> DispatchResult | None:
    """Why it may not go now; None if it may. `unit` is None if the members service has not been asked."""
    reason = verdict.reason or "unknown"
    match verdict.ruling:
        case Ruling.ALLOW:
            return None
        case Ruling.DEFER:
            return Deferred(verdict.until or now, reason)
        case Ruling.HOLD if reason in LOOKED_AT_AGAIN:
            return Held(reason, now + LOOK_FOR_ADDRESS)
        case Ruling.HOLD:
            return Deferred(now + LOOK_AGAIN)
        case Ruling.SUPPRESS if verdict.decisive.rule == REACHABILITY:
            return NoWay(reason, unit)
        case Ruling.SUPPRESS:
            return Suppressed(reason, verdict.channel, unit, verdict.is_final)
