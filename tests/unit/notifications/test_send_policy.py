"""The send policy: the verdict of each rule, and which of them decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import Authority, Ruling, SendFacts, facts_of_service, judge

FINE = SendFacts(
    active=True,
    consented=("email", "whatsapp"),
    addressable=frozenset({"whatsapp", "sms", "email"}),
    group_id="g",
    invited=True,
)


def test_lets_a_consented_reachable_invited_member_pass_on_the_preferred_channel():
    verdict = judge(FINE)
    assert (verdict.ruling, verdict.reason, verdict.channel) == (Ruling.ALLOW, None, "whatsapp")
    assert [rule.rule for rule in verdict.rules] == [
        "active",
        "not_merged",
        "own_number",
        "announced",
        "not_welcomed",
        "consent",
        "suppressed",
        "address",
        "group_link",
    ]


@pytest.mark.parametrize(
    ("changed", "ruling", "reason"),
    [
        ({"active": False}, Ruling.SUPPRESS, "left"),
        ({"announced": False}, Ruling.SUPPRESS, "not_announced"),
        ({"own_number": False}, Ruling.SUPPRESS, "no_number"),
        ({"consented": ()}, Ruling.SUPPRESS, "no_consent"),
        ({"consented": ("pigeon",)}, Ruling.SUPPRESS, "no_consent"),
        ({"suppressed": frozenset({"whatsapp", "email"})}, Ruling.SUPPRESS, "suppressed"),
        ({"addressable": frozenset()}, Ruling.HOLD, "no_address"),
        ({"group_id": None, "invited": False}, Ruling.HOLD, "no_group"),
        ({"invited": False}, Ruling.HOLD, "no_invite"),
    ],
)
def test_each_rule_can_stop_it(changed, ruling, reason):
    verdict = judge(replace(FINE, **changed))
    assert (verdict.ruling, verdict.reason) == (ruling, reason)


@pytest.mark.parametrize(
    ("changed", "without"),
    [({"group_id": None, "invited": False}, "no_group"), ({"invited": False}, "no_invite"), ({}, None)],
)
def test_a_welcome_that_has_waited_goes_without_a_link_and_an_invite_does_not(changed, without):
    facts = replace(FINE, waited=True, **changed)
    verdict = judge(facts)
    assert (verdict.ruling, verdict.reason, verdict.without) == (Ruling.ALLOW, None, without)
    assert judge(replace(FINE, **changed)).without is None, "it is held"
    assert judge(replace(facts, welcome=False)).reason == without


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"active": False}, "left"),
        ({"consented": ()}, "no_consent"),
        ({"addressable": frozenset()}, "no_address"),
    ],
)
def test_no_other_rule_is_waived_for_one_that_has_waited(changed, reason):
    assert judge(replace(FINE, waited=True, invited=False, **changed)).reason == reason


def test_suppressing_weighs_more_than_holding():
    verdict = judge(replace(FINE, consented=(), group_id=None, invited=False))
    assert (verdict.ruling, verdict.reason) == (Ruling.SUPPRESS, "no_consent")


def test_who_left_is_told_apart_before_consent_is_looked_at():
    assert judge(replace(FINE, active=False, consented=())).reason == "left"


def test_an_address_nobody_has_looked_for_stops_nothing():
    verdict = judge(replace(FINE, addressable=None))
    assert verdict.ruling is Ruling.ALLOW
    assert {rule.rule: dict(rule.input) for rule in verdict.rules}["address"] == {"channels": None}


def test_falls_back_to_the_next_consented_channel_that_has_an_address():
    assert judge(replace(FINE, addressable=frozenset({"email"}))).channel == "email"


def test_a_channel_that_was_stopped_is_passed_over():
    assert judge(replace(FINE, suppressed=frozenset({"whatsapp"}))).channel == "email"


def test_a_service_message_needs_no_consent_and_goes_on_its_channel_alone():
    known = Recipient("m", own_number=True)
    said = Authority(active=True, consented=frozenset(), addressable=frozenset({"sms", "whatsapp"}))
    verdict = judge(facts_of_service(known, "sms", said))
    assert (verdict.ruling, verdict.channel) == (Ruling.ALLOW, "sms")
    assert judge(facts_of_service(known, "email", said)).ruling is Ruling.HOLD
    assert judge(facts_of_service(known, "sms", replace(said, active=False))).reason == "left"
