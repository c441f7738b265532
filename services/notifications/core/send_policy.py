"""The send policy: decides whether a message may go, when, on which channel, and explains it by rules. Pure.

It is one ordered list of rules (`RULES`). Each rule looks at the facts and at the channels that the rules
before it have left, and lets the message pass, holds it for an event, defers it until a time, or suppresses
it. It judges twice: when a message is queued, by what the events say, and again just before it is sent, by
what the members service says and by the clock. An event is a claim: it can make a message be held or
suppressed early, but only the members service, which owns consents, makes one go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.notifications.core.policies.domain import AS_SHIPPED, SERVICE, Policies
from services.notifications.core.recipients import Recipient
from services.shared.contracts.vocabulary import Channel, Purpose

RULES_VERSION: Final = 2
"""Raised with every change of the rules; each decision that is kept names it. 1 had no rules of time."""
NO_ADDRESS: Final = "no_address"
NO_GATEWAY: Final = "no_gateway"
"""No channel with consent and an address has a gateway."""
SUPPRESSED: Final = "suppressed"
"""The person has stopped messages to each address that could be used."""
EXPIRED: Final = "expired"
NO_GROUP: Final = "no_group"
NO_INVITE: Final = "no_invite"
PAIR_RATE: Final = "pair_rate"
BREAKER: Final = "breaker"
"""The template, number or account is stopped for a time. No rule of this list, for only the handing over
knows it."""
REACHABILITY: Final = "reachability"
"""The rule of channels on which the message has failed."""
FOR_GOOD: Final = frozenset({"in_time", "certificate", "silence"})
"""Rules that suppress by what we know ourselves: no news of the member changes it."""


class Ruling(StrEnum):
    ALLOW = "allow"
    DEFER = "defer"
    """Not before a time."""
    HOLD = "hold"
    """Not now; an event that is still to come may change it."""
    SUPPRESS = "suppress"
    """Never."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One applied rule, its input (no address, no name) and its ruling; `reason` unless it passed, or passed
    only because it was waived; `until` if it defers. `channels` are those that it leaves, None for all."""

    rule: str
    input: Mapping[str, object]
    ruling: Ruling
    reason: str | None = None
    until: datetime | None = None
    channels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Avoided:
    """A channel on which the message has failed, and why; until when, or None for good."""

    channel: str
    error_class: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """A budget of so many recipients a day that has no place left; until when."""

    recipients: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The time at which a message may go, and the facts that hold then.

    `gateways` are the channels that have a sender; `failed` those on which this message has failed; `sent`
    the purposes and times of what went to this person of late; `spent` the channels whose budget has no place
    for this person; `paired` until when a channel waits after the last message to this
    person; `unusable` the channels on which the text cannot go, and why. None stands for all channels, and
    for facts not asked for yet.
    """

    at: datetime
    unit: str
    policies: Policies = AS_SHIPPED
    expires_at: datetime | None = None
    certificate: str | None = None
    preferred: str | None = None
    gateways: Collection[str] | None = None
    failed: Sequence[Avoided] = ()
    sent: Sequence[tuple[str, datetime]] = ()
    spent: Mapping[str, Spent] = field(default_factory=dict)
    paired: Mapping[str, datetime] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendFacts:
    """The input of the policy. `consented` and `addressable` are channels."""

    active: bool
    consented: Collection[str] | None
    """None while only the members service knows: the events tell of consents to the welcome alone."""
    addressable: frozenset[str] | None
    """None while the address has not been looked up."""
    group_id: str | None
    invited: bool
    """Whether the group has an invite link."""
    purpose: str = Purpose.WELCOME.value
    announced: bool = True
    """Whether the member is to be welcomed at all."""
    erased: bool = False
    minor: bool = False
    """Whether it is not sure that the person is of age."""
    merged: bool = False
    """Whether another member stands for this one."""
    welcomed: bool = False
    """Whether the person was welcomed as another member."""
    own_number: bool = True
    """False for somebody who is reached through another member: they get no message at all."""
    welcome: bool = True
    """Whether the message is the welcome."""
    suppressed: frozenset[str] = frozenset()
    """Channels on which the address is on the suppression list."""
    waited: bool = False
    """Whether it has waited for the group and its link for as long as a welcome may."""
    now: Circumstances | None = None
    """None while the message is only queued: then no rule of time applies."""

    @property
    def service(self) -> bool:
        """Whether the message only answers what the person has just done: it needs no consent and no
        group."""
        return self.purpose == SERVICE


@dataclass(frozen=True, slots=True)
class Authority:
    """The facts that the members service owns, as it tells them now; the events heard may lag behind."""

    active: bool
    consented: frozenset[str]
    addressable: frozenset[str]
    own_number: bool = True
    suppressed: frozenset[str] = frozenset()
    """Channels on which the address that it tells is on the suppression list."""
    minor: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """The message: its purpose and template, and the group to which it invites. One whose purpose is the
    welcome invites to the group in which the member has a seat by now. `waited` is as in `SendFacts`. A
    service message goes on the `channel` on which the person has written, or not at all."""

    purpose: str
    template: str
    group_id: str | None = None
    waited: bool = False
    channel: str | None = None
    tested: bool = False
    """Whether it is a test of a text: it goes as a service message does, but only with a consent."""

    @property
    def is_welcome(self) -> bool:
        return self.template == Purpose.WELCOME

    @property
    def is_service(self) -> bool:
        return self.purpose == SERVICE

    def group_of(self, recipient: Recipient) -> str | None:
        return recipient.group_id if self.purpose == Purpose.WELCOME else self.group_id


def facts_heard(
    about: About, recipient: Recipient, *, invited: bool, now: Circumstances | None = None
) -> SendFacts:
    """The facts as the events tell them: enough to hold or suppress a message, never to send it."""
    consented: Collection[str] | None = None
    if about.is_service:
        consented = () if about.channel is None else (about.channel,)
    elif about.purpose == Purpose.WELCOME:
        consented = recipient.channels
    return SendFacts(
        purpose=about.purpose,
        welcome=about.is_welcome,
        waited=about.waited,
        active=recipient.active,
        erased=recipient.erased,
        consented=consented,
        addressable=None,
        group_id=about.group_of(recipient),
        invited=invited,
        announced=recipient.announced,
        merged=recipient.merged,
        welcomed=recipient.welcomed,
        own_number=recipient.own_number,
        now=now,
    )


def facts_asked(
    about: About,
    recipient: Recipient,
    said: Authority,
    *,
    invited: bool,
    now: Circumstances | None = None,
) -> SendFacts:
    """The facts as the members service tells them; a member who left by it or by the events, left. A number
    that it tells of is there, whatever events are still on their way. What answers the person goes to an
    address that is on the suppression list for other messages."""
    heard = facts_heard(about, recipient, invited=invited, now=now)
    answers = about.is_service and not about.tested
    consented: Collection[str] | None = heard.consented if answers else said.consented
    if about.tested:
        consented = said.consented & {about.channel}
    return replace(
        heard,
        active=heard.active and said.active,
        minor=said.minor,
        consented=consented,
        addressable=said.addressable,
        own_number=said.own_number,
        suppressed=frozenset() if answers else said.suppressed,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rules that were applied, in order; the most severe of them decides."""

    rules: tuple[Rule, ...]
    channel: str | None
    """The first usable channel, if there is one."""
    without: str | None = None
    """`no_group` or `no_invite` for a welcome that has waited for it and goes without."""

    @property
    def ruling(self) -> Ruling:
        return self.decisive.ruling

    @property
    def reason(self) -> str | None:
        return self.decisive.reason

    @property
    def until(self) -> datetime | None:
        """When it may go, if it is deferred: not before the last rule that defers it lets it."""
        if self.ruling is not Ruling.DEFER:
            return None
        return max(rule.until for rule in self.rules if rule.until is not None)

    @property
    def is_final(self) -> bool:
        return self.decisive.rule in FOR_GOOD

    @property
    def decisive(self) -> Rule:
        """Suppressing outweighs holding, holding outweighs deferring, that outweighs allowing; among equals
        the first rule decides."""
        return min(self.rules, key=lambda rule: _WEIGHT[rule.ruling])


_WEIGHT: Final = {Ruling.SUPPRESS: 0, Ruling.HOLD: 1, Ruling.DEFER: 2, Ruling.ALLOW: 3}
_ORDER: Final = tuple(channel.value for channel in Channel)


@dataclass(frozen=True, slots=True)
class _Judged:
    """The facts, and the channels that are left: in order, those with consent at first."""

    facts: SendFacts
    channels: tuple[str, ...]

    @property
    def channel(self) -> str | None:
        """The channel that would be used. None if none is left, or while consents are not known."""
        return self.channels[0] if self.channels else None


def judge(facts: SendFacts) -> Verdict:
    """Apply every rule that concerns the message, in the order in which their reasons take precedence."""
    given = facts.consented or ()
    channels = tuple(channel for channel in _ORDER if channel in given)
    rules: list[Rule] = []
    for rule in RULES:
        if (made := rule(_Judged(facts, channels))) is not None:
            rules.append(made)
            # A rule that stops all channels leaves them: the answer names the first that would be used.
            channels = made.channels or channels
    link = next((rule for rule in rules if rule.rule == "group_link"), None)
    without = link.reason if link is not None and link.ruling is Ruling.ALLOW else None
    return Verdict(tuple(rules), channels[0] if channels else None, without)


def _is_not_erased(judged: _Judged) -> Rule | None:
    erased = judged.facts.erased
    return _rule("erased", {"erased": erased}, not erased, Ruling.SUPPRESS, "erased")


def _is_active(judged: _Judged) -> Rule | None:
    active = judged.facts.active
    return _rule("active", {"active": active}, active, Ruling.SUPPRESS, "left")


def _is_not_merged(judged: _Judged) -> Rule | None:
    merged = judged.facts.merged
    return _rule("not_merged", {"merged": merged}, not merged, Ruling.SUPPRESS, "merged")


def _has_own_number(judged: _Judged) -> Rule | None:
    passed = judged.facts.own_number
    return _rule("own_number", {"own_number": passed}, passed, Ruling.SUPPRESS, "no_number")


def _is_of_age(judged: _Judged) -> Rule | None:
    """A campaign goes to adults (Digital Personal Data Protection Act 2023, section 9)."""
    if judged.facts.purpose != Purpose.BROADCAST:
        return None
    minor = judged.facts.minor
    return _rule("of_age", {"minor": minor}, not minor, Ruling.SUPPRESS, "minor")


def _is_announced(judged: _Judged) -> Rule | None:
    if not judged.facts.welcome:
        return None
    passed = judged.facts.announced
    return _rule("announced", {"announced": passed}, passed, Ruling.SUPPRESS, "not_announced")


def _is_not_welcomed(judged: _Judged) -> Rule | None:
    if not judged.facts.welcome:
        return None
    welcomed = judged.facts.welcomed
    return _rule("not_welcomed", {"welcomed": welcomed}, not welcomed, Ruling.SUPPRESS, "welcomed_already")


def _has_consent(judged: _Judged) -> Rule | None:
    asked = judged.facts.consented is not None
    passed = bool(judged.channels) or not asked
    channels = judged.channels if asked else None
    return _rule("consent", {"channels": channels}, passed, Ruling.SUPPRESS, "no_consent")


def _is_not_suppressed(judged: _Judged) -> Rule | None:
    stopped = judged.facts.suppressed
    left = tuple(channel for channel in judged.channels if channel not in stopped)
    passed = bool(left) or not judged.channels
    return _rule("suppressed", {"channels": sorted(stopped)}, passed, Ruling.SUPPRESS, SUPPRESSED, left=left)


def _prefers(judged: _Judged) -> Rule | None:
    """The member's own choice comes first; the others follow in the order of `Channel`."""
    now = judged.facts.now
    if now is None or now.preferred is None:
        return None
    ordered = tuple(sorted(judged.channels, key=lambda channel: channel != now.preferred))
    return Rule("preference", {"preferred": now.preferred}, Ruling.ALLOW, channels=ordered)


def _has_address(judged: _Judged) -> Rule | None:
    addressable = judged.facts.addressable
    if addressable is None:
        return Rule("address", {"channels": None}, Ruling.ALLOW)
    left = tuple(channel for channel in judged.channels if channel in addressable)
    return _rule("address", {"channels": left}, bool(left), Ruling.HOLD, NO_ADDRESS, left=left)


def _has_gateway(judged: _Judged) -> Rule | None:
    now = judged.facts.now
    if now is None or now.gateways is None or not judged.channels:
        return None
    gateways = now.gateways
    left = tuple(channel for channel in judged.channels if channel in gateways)
    return _rule("gateway", {"channels": left}, bool(left), Ruling.HOLD, NO_GATEWAY, left=left)


def _is_reachable(judged: _Judged) -> Rule | None:
    """Not on a channel on which this message has failed. When all have, the first that may be tried again is
    waited for, and without one the message fails."""
    now = judged.facts.now
    if now is None or not now.failed or not judged.channels:
        return None
    failed = {each.channel: each for each in now.failed if each.until is None or each.until > now.at}
    left = tuple(channel for channel in judged.channels if channel not in failed)
    input_ = {"failed": {channel: each.error_class for channel, each in failed.items()}}
    if left:
        return Rule(REACHABILITY, input_, Ruling.ALLOW, channels=left)
    tried = [failed[channel] for channel in failed if channel in judged.channels]
    again = min((each for each in tried if each.until is not None), key=_until, default=None)
    if again is not None:
        return Rule(REACHABILITY, input_, Ruling.DEFER, again.error_class, again.until)
    if now.unusable:  # a text may still be approved there
        return Rule(REACHABILITY, input_, Ruling.HOLD, next(iter(now.unusable.values())))
    return Rule(REACHABILITY, input_, Ruling.SUPPRESS, tried[-1].error_class)


def _until(failure: Avoided) -> datetime:
    assert failure.until is not None
    return failure.until


def _is_in_time(judged: _Judged) -> Rule | None:
    now = judged.facts.now
    if now is None:
        return None
    passed = now.expires_at is None or now.expires_at > now.at
    return _rule("in_time", {"expires_at": now.expires_at}, passed, Ruling.SUPPRESS, EXPIRED)


def _has_certificate(judged: _Judged) -> Rule | None:
    now = judged.facts.now
    if now is None or judged.facts.purpose not in now.policies.election_matter:
        return None
    needed, given = now.policies.certificates, now.certificate
    input_ = {"needed": needed, "certificate": given}
    return _rule("certificate", input_, given is not None or not needed, Ruling.SUPPRESS, "no_certificate")


def _is_not_silenced(judged: _Judged) -> Rule | None:
    """Election matter that meets a silence window is not sent later: the poll is over then."""
    now = judged.facts.now
    if now is None or judged.facts.purpose not in now.policies.election_matter:
        return None
    if judged.facts.addressable is None:  # the members service says where the person is
        return None
    window = now.policies.silence(now.unit, now.at)
    input_ = {"unit": now.unit, "window": window.id if window else None}
    return _rule("silence", input_, window is None, Ruling.SUPPRESS, "silence")


def _is_not_quiet(judged: _Judged) -> Rule | None:
    now = judged.facts.now
    if now is None or judged.facts.service:
        return None
    channel = judged.channel if judged.facts.addressable is not None else None
    hours = list(now.policies.quiet(judged.facts.purpose, channel, now.at))
    return _deferred("quiet_hours", {"hours": [name for name, _ in hours]}, [end for _, end in hours])


def _is_not_too_often(judged: _Judged) -> Rule | None:
    now = judged.facts.now
    caps = now.policies.caps(judged.facts.purpose) if now else []
    if now is None or not caps:
        return None
    ends = [end for cap in caps if (end := cap.until(now.sent, now.at)) is not None]
    return _deferred("frequency_cap", {"sent": len(now.sent)}, ends)


def _is_paced(judged: _Judged) -> Rule | None:
    now = judged.facts.now
    free_at = now.paired.get(judged.channel or "") if now else None
    if now is None or free_at is None:
        return None
    return _deferred(PAIR_RATE, {"channel": judged.channel}, [free_at] if free_at > now.at else [])


def _is_within_budget(judged: _Judged) -> Rule | None:
    """The organisation's own budget, or the limit that the provider has told if that is less."""
    if judged.facts.now is None or judged.channel is None:
        return None
    spent = judged.facts.now.spent.get(judged.channel)
    limit = spent.recipients if spent else judged.facts.now.policies.budget(judged.channel)
    if limit is None:
        return None
    input_ = {"channel": judged.channel, "recipients": limit}
    return _deferred("budget", input_, [spent.until] if spent else [])


def _has_text(judged: _Judged) -> Rule | None:
    """A channel on which only approved texts go needs one, and the text must be exactly that."""
    now = judged.facts.now
    if now is None or not judged.channels or not now.unusable:
        return None
    left = tuple(channel for channel in judged.channels if channel not in now.unusable)
    reasons = {channel: now.unusable[channel] for channel in judged.channels if channel in now.unusable}
    reason = next(iter(reasons.values()), "")
    return _rule("template", {"unusable": reasons}, bool(left), Ruling.HOLD, reason, left=left)


def _has_group_link(judged: _Judged) -> Rule | None:
    """A welcome waits for the link for a time and then goes without it; an invite is nothing without it."""
    facts = judged.facts
    if facts.service or facts.purpose == Purpose.BROADCAST:
        return None
    input_ = {"group_id": facts.group_id, "invited": facts.invited, "waited": facts.waited}
    missing = NO_GROUP if facts.group_id is None else None if facts.invited else NO_INVITE
    goes = missing is None or (facts.welcome and facts.waited)
    return Rule("group_link", input_, Ruling.ALLOW if goes else Ruling.HOLD, missing)


RULES: Final[tuple[Callable[[_Judged], Rule | None], ...]] = (
    _is_not_erased,
    _is_active,
    _is_not_merged,
    _has_own_number,
    _is_of_age,
    _is_announced,
    _is_not_welcomed,
    _has_consent,
    _is_not_suppressed,
    _prefers,
    _has_address,
    _has_gateway,
    _has_text,
    _is_reachable,
    _is_in_time,
    _has_certificate,
    _is_not_silenced,
    _is_not_quiet,
    _is_not_too_often,
    _is_paced,
    _is_within_budget,
    _has_group_link,
)
"""In the order in which their reasons take precedence. The rules that choose the channel come before those
that ask about it."""


def _rule(
    rule: str,
    input_: Mapping[str, object],
    passed: bool,
    otherwise: Ruling,
    reason: str,
    *,
    left: tuple[str, ...] | None = None,
) -> Rule:
    if passed:
        return Rule(rule, input_, Ruling.ALLOW, channels=left)
    return Rule(rule, input_, otherwise, reason)


def _deferred(rule: str, input_: Mapping[str, object], ends: Iterable[datetime]) -> Rule:
    """Deferred until the last of `ends`; without any, it passes."""
    last = max(ends, default=None)
    if last is None:
        return Rule(rule, input_, Ruling.ALLOW)
    return Rule(rule, input_, Ruling.DEFER, rule, last)
