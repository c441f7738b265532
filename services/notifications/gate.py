"""The send gate: one place decides whether a message may go, on which channel, and says why rule by rule.

Pure. It is passed when a welcome is queued, with the address not looked up yet, and again just before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.shared.contracts.vocabulary import Channel


class Ruling(StrEnum):
    ALLOW = "allow"
    HOLD = "hold"
    """Not now; an event that is still to come may change it."""
    SUPPRESS = "suppress"
    """Never."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with the facts it looked at (no address, no name) and its ruling; `reason` unless it passed."""

    rule: str
    input: Mapping[str, object]
    ruling: Ruling
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """`consented` and `addressable` are channels; `addressable` None means that nobody has looked yet."""

    active: bool
    consented: tuple[str, ...]
    addressable: frozenset[str] | None
    group_id: str | None
    invited: bool
    """Whether that group has an invite link."""


@dataclass(frozen=True, slots=True)
class Verdict:
    rules: tuple[Rule, ...]
    channel: str | None
    """The first channel in `Channel`'s order that may be used, if there is one."""

    @property
    def ruling(self) -> Ruling:
        return self._decisive.ruling

    @property
    def reason(self) -> str | None:
        return self._decisive.reason

    @property
    def _decisive(self) -> Rule:
        """Suppressing weighs more than holding, holding more than passing; among equals the first rule decides."""
        weight = {Ruling.SUPPRESS: 0, Ruling.HOLD: 1, Ruling.ALLOW: 2}
        return min(self.rules, key=lambda rule: weight[rule.ruling])


def judge(facts: Facts) -> Verdict:
    """Every rule, in the order in which their reasons take precedence."""
    consented = tuple(channel.value for channel in Channel if channel.value in facts.consented)
    usable = tuple(c for c in consented if facts.addressable is None or c in facts.addressable)
    rules = (_is_active(facts), _has_consent(consented), _has_address(facts, usable), _has_group_link(facts))
    channels = usable or consented
    return Verdict(rules, channels[0] if channels else None)


def _is_active(facts: Facts) -> Rule:
    return _rule("active", {"active": facts.active}, facts.active, Ruling.SUPPRESS, "left")


def _has_consent(consented: tuple[str, ...]) -> Rule:
    return _rule("consent", {"channels": consented}, bool(consented), Ruling.SUPPRESS, "no_consent")


def _has_address(facts: Facts, usable: tuple[str, ...]) -> Rule:
    looked = facts.addressable is not None
    return _rule(
        "address",
        {"channels": usable if looked else None},
        bool(usable) or not looked,
        Ruling.SUPPRESS,
        "no_address",
    )


def _has_group_link(facts: Facts) -> Rule:
    return _rule(
        "group_link",
        {"group_id": facts.group_id, "invited": facts.invited},
        facts.group_id is not None and facts.invited,
        Ruling.HOLD,
        "no_group" if facts.group_id is None else "no_invite",
    )


def _rule(rule: str, looked_at: Mapping[str, object], passed: bool, otherwise: Ruling, reason: str) -> Rule:
    return Rule(rule, looked_at, Ruling.ALLOW) if passed else Rule(rule, looked_at, otherwise, reason)
