"""Explanations of the send policy, as callers see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from services.notifications.core.send_policy import RULES_VERSION, Rule, Verdict
from services.notifications.sending.composing import decision_of
from services.notifications.sending.explaining import Explanation


class RuleOut(BaseModel):
    """One rule: what it looked at, its verdict, and why. `until` is when it lets the message pass."""

    rule: str
    input: dict[str, Any]
    verdict: Literal["allow", "defer", "hold", "suppress"]
    reason: str | None
    until: datetime | None


class ExplanationOut(BaseModel):
    """Whether a message would go at this time, and by which rule not: they are listed in the order in which
    they were applied. `hold` waits for an event, `defer` until a time."""

    member_id: str
    purpose: str
    at: datetime
    verdict: Literal["send", "defer", "hold", "suppress"]
    rule: str | None
    reason: str | None
    channel: str | None
    until: datetime | None
    without: str | None
    rules_version: int
    policy_version: int
    rules: list[RuleOut]


def explanation_out(explained: Explanation) -> dict[str, Any]:
    verdict: Verdict = explained.verdict
    decision = decision_of(verdict, explained.policies, explained.at)
    return {
        "member_id": explained.question.member_id,
        "purpose": explained.question.purpose,
        "at": explained.at,
        "verdict": decision.verdict,
        "rule": decision.rule,
        "reason": decision.reason,
        "channel": decision.channel,
        "until": decision.until,
        "without": verdict.without,
        "rules_version": RULES_VERSION,
        "policy_version": explained.policies.version,
        "rules": [_rule_out(rule) for rule in verdict.rules],
    }


def _rule_out(rule: Rule) -> dict[str, Any]:
    return {
        "rule": rule.rule,
        "input": dict(rule.input),
        "verdict": rule.ruling.value,
        "reason": rule.reason,
        "until": rule.until,
    }


class BreakerOut(BaseModel):
    """By `subject` (a template, number or account of the `sender`) nothing goes, because of `code`. A message
    goes as a probe at `until`; `trips` is how often that has come to nothing, the first time included."""

    id: str
    sender: str
    kind: str
    subject: str
    code: str
    trips: int
    opened_at: datetime
    until: datetime


class BreakersOut(BaseModel):
    """The open breakers, at most 500."""

    items: list[BreakerOut]
