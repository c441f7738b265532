"""The send policy: decides whether a message may go, on which channel, and explains it by rules. Pure.

It judges twice: when a welcome is queued, by what the events say, and again just before it is sent, by what
the members service says. An event is a claim: it can make a message be held or suppressed early, but only the
members service, which owns consents, makes one go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.notifications.core.recipients import Recipient
from services.shared.contracts.vocabulary import Channel, Purpose

NO_ADDRESS: Final = "no_address"
SUPPRESSED: Final = "suppressed"
"""The person has stopped messages to each address that could be used."""
NO_GROUP: Final = "no_group"
NO_INVITE: Final = "no_invite"


class Ruling(StrEnum):
    ALLOW = "allow"
    HOLD = "hold"
    """Not now; an event that is still to come may change it."""
    SUPPRESS = "suppress"
    """Never."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One applied rule, its input (no address, no name) and its ruling; `reason` unless it passed, or passed
    only because it was waived."""

    rule: str
    input: Mapping[str, object]
    ruling: Ruling
    reason: str | None = None


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
    announced: bool = True
    """Whether the member is to be welcomed at all."""
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
    service: bool = False
    """Whether the message only answers what the person has just done: it needs no consent and no group."""
    waited: bool = False
    """Whether it has waited for the group and its link for as long as a welcome may."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The facts that the members service owns, as it tells them now; the events heard may lag behind."""

    active: bool
    consented: frozenset[str]
    addressable: frozenset[str]
    own_number: bool = True
    suppressed: frozenset[str] = frozenset()
    """Channels on which the address that it tells is on the suppression list."""


def facts_of_service(recipient: Recipient, channel: str, said: Authority | None = None) -> SendFacts:
    """The facts for a service message, which goes on the channel on which the person has written, or not at
    all. `said`: as the members service tells them."""
    return SendFacts(
        welcome=False,
        service=True,
        active=recipient.active and (said is None or said.active),
        consented=frozenset((channel,)),
        addressable=said.addressable if said else None,
        group_id=None,
        invited=False,
        merged=recipient.merged,
        own_number=said.own_number if said else recipient.own_number,
    )


@dataclass(frozen=True, slots=True)
class About:
    """The message: its purpose and template, and the group to which it invites. One whose purpose is the
    welcome invites to the group in which the member has a seat by now. `waited` is as in `SendFacts`."""

    purpose: str
    template: str
    group_id: str | None = None
    waited: bool = False

    @property
    def is_welcome(self) -> bool:
        return self.template == Purpose.WELCOME

    def group_of(self, recipient: Recipient) -> str | None:
        return recipient.group_id if self.purpose == Purpose.WELCOME else self.group_id


def facts_heard(about: About, recipient: Recipient, *, invited: bool) -> SendFacts:
    """The facts as the events tell them: enough to hold or suppress a message, never to send it."""
    return SendFacts(
        welcome=about.is_welcome,
        waited=about.waited,
        active=recipient.active,
        consented=recipient.channels if about.purpose == Purpose.WELCOME else None,
        addressable=None,
        group_id=about.group_of(recipient),
        invited=invited,
        announced=recipient.announced,
        merged=recipient.merged,
        welcomed=recipient.welcomed,
        own_number=recipient.own_number,
    )


def facts_asked(about: About, recipient: Recipient, said: Authority, *, invited: bool) -> SendFacts:
    """The facts as the members service tells them; a member who left by it or by the events, left. A number
    that it tells of is there, whatever events are still on their way."""
    return SendFacts(
        welcome=about.is_welcome,
        waited=about.waited,
        active=recipient.active and said.active,
        consented=said.consented,
        addressable=said.addressable,
        group_id=about.group_of(recipient),
        invited=invited,
        announced=recipient.announced,
        merged=recipient.merged,
        welcomed=recipient.welcomed,
        own_number=said.own_number,
        suppressed=said.suppressed,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rules that were applied, in order; the most severe of them decides."""

    rules: tuple[Rule, ...]
    channel: str | None
    """The first usable channel in `Channel`'s order, if there is one."""
    without: str | None = None
    """`no_group` or `no_invite` for a welcome that has waited for it and goes without."""

    @property
    def ruling(self) -> Ruling:
        return self._decisive.ruling

    @property
    def reason(self) -> str | None:
        return self._decisive.reason

    @property
    def _decisive(self) -> Rule:
        """Suppressing outweighs holding, holding outweighs allowing; among equals the first rule decides."""
        weight = {Ruling.SUPPRESS: 0, Ruling.HOLD: 1, Ruling.ALLOW: 2}
        return min(self.rules, key=lambda rule: weight[rule.ruling])


def judge(facts: SendFacts) -> Verdict:
    """Apply every rule, in the order in which their reasons take precedence."""
    known = facts.consented
    consented = tuple(channel.value for channel in Channel if known is not None and channel.value in known)
    allowed = tuple(channel for channel in consented if channel not in facts.suppressed)
    usable = tuple(c for c in allowed if facts.addressable is None or c in facts.addressable)
    link = _has_group_link(facts)
    rules = (
        _is_active(facts),
        _is_not_merged(facts),
        _has_own_number(facts),
        *([_is_announced(facts), _is_not_welcomed(facts)] if facts.welcome else []),
        _has_consent(consented, asked=known is not None),
        _is_not_suppressed(facts, consented, allowed),
        _has_address(facts, usable),
        *([] if facts.service else [link]),
    )
    channels = usable or allowed or consented
    without = link.reason if not facts.service and link.ruling is Ruling.ALLOW else None
    return Verdict(rules, channels[0] if channels else None, without)


def _is_active(facts: SendFacts) -> Rule:
    return _rule("active", {"active": facts.active}, facts.active, Ruling.SUPPRESS, "left")


def _is_not_merged(facts: SendFacts) -> Rule:
    return _rule("not_merged", {"merged": facts.merged}, not facts.merged, Ruling.SUPPRESS, "merged")


def _has_own_number(facts: SendFacts) -> Rule:
    passed = facts.own_number
    return _rule("own_number", {"own_number": passed}, passed, Ruling.SUPPRESS, "no_number")


def _is_not_welcomed(facts: SendFacts) -> Rule:
    return _rule(
        "not_welcomed", {"welcomed": facts.welcomed}, not facts.welcomed, Ruling.SUPPRESS, "welcomed_already"
    )


def _is_announced(facts: SendFacts) -> Rule:
    return _rule(
        "announced", {"announced": facts.announced}, facts.announced, Ruling.SUPPRESS, "not_announced"
    )


def _has_consent(consented: tuple[str, ...], *, asked: bool) -> Rule:
    passed = bool(consented) or not asked
    channels = consented if asked else None
    return _rule("consent", {"channels": channels}, passed, Ruling.SUPPRESS, "no_consent")


def _is_not_suppressed(facts: SendFacts, consented: tuple[str, ...], allowed: tuple[str, ...]) -> Rule:
    passed = bool(allowed) or not consented
    return _rule("suppressed", {"channels": sorted(facts.suppressed)}, passed, Ruling.SUPPRESS, SUPPRESSED)


def _has_address(facts: SendFacts, usable: tuple[str, ...]) -> Rule:
    looked_up = facts.addressable is not None
    return _rule(
        "address",
        {"channels": usable if looked_up else None},
        bool(usable) or not looked_up,
        Ruling.HOLD,
        NO_ADDRESS,
    )


def _has_group_link(facts: SendFacts) -> Rule:
    """A welcome waits for the link for a time and then goes without it; an invite is nothing without it."""
    input_ = {"group_id": facts.group_id, "invited": facts.invited, "waited": facts.waited}
    missing = NO_GROUP if facts.group_id is None else None if facts.invited else NO_INVITE
    goes = missing is None or (facts.welcome and facts.waited)
    return Rule("group_link", input_, Ruling.ALLOW if goes else Ruling.HOLD, missing)


def _rule(rule: str, input_: Mapping[str, object], passed: bool, otherwise: Ruling, reason: str) -> Rule:
    return Rule(rule, input_, Ruling.ALLOW) if passed else Rule(rule, input_, otherwise, reason)
