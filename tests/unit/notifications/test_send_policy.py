"""The send policy: the verdict of each rule, and which of them decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from services.notifications.core.policies.domain import (
    AS_SHIPPED,
    Budget,
    FrequencyCap,
    Policies,
    QuietHours,
    SilenceWindow,
)
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import (
    About,
    Authority,
    Avoided,
    Circumstances,
    Ruling,
    SendFacts,
    Spent,
    facts_asked,
    judge,
)

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
        "erased",
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
        ({"active": False, "erased": True}, Ruling.SUPPRESS, "erased"),
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
    said = Authority(
        active=True,
        consented=frozenset(),
        addressable=frozenset({"sms", "whatsapp"}),
        suppressed=frozenset({"sms"}),
    )

    def verdict(channel, said=said):
        about = About("service", "stopped", channel=channel)
        return judge(facts_asked(about, known, said, invited=False, now=Circumstances(NIGHT, "BR")))

    assert (verdict("sms").ruling, verdict("sms").channel) == (Ruling.ALLOW, "sms")
    assert verdict("email").reason == "no_address"
    assert verdict("sms", replace(said, active=False)).reason == "left"


NOON = datetime(2026, 11, 27, 6, 30, tzinfo=UTC)
"""12:00 in India."""
NIGHT = datetime(2026, 11, 27, 17, 30, tzinfo=UTC)
"""23:00 in India."""
BROADCAST = replace(FINE, purpose="broadcast", welcome=False)


def at(now, facts=BROADCAST, **known):
    known.setdefault("certificate", "MCMC/17")
    return judge(replace(facts, now=Circumstances(now, "BR-SRN-MARH-101", **known)))


def test_a_broadcast_at_noon_goes():
    verdict = at(NOON, gateways={"whatsapp", "sms", "email"})
    assert (verdict.ruling, verdict.channel, verdict.until) == (Ruling.ALLOW, "whatsapp", None)
    assert {"of_age", "certificate", "silence", "quiet_hours", "frequency_cap"} <= {
        rule.rule for rule in verdict.rules
    }
    assert "group_link" not in {rule.rule for rule in verdict.rules}


POLL = SilenceWindow("phase-2", ("BR-SRN",), NOON + timedelta(hours=3))
HOURS = timedelta(hours=1)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"certificate": None}, "no_certificate"),
        ({"expires_at": NOON}, "expired"),
        ({"policies": Policies(silence_windows=(POLL,))}, "silence"),
        ({"policies": Policies(silence_windows=(replace(POLL, units=("BR-SRN-MARH-101-7",)),))}, "silence"),
        ({"failed": [Avoided("email", "bounced"), Avoided("whatsapp", "not_there")]}, "not_there"),
    ],
)
def test_what_we_know_ourselves_suppresses(known, reason):
    verdict = at(NOON, **known)
    assert (verdict.ruling, verdict.reason) == (Ruling.SUPPRESS, reason)


@pytest.mark.parametrize(
    "policies",
    [
        Policies(silence_windows=(replace(POLL, units=("BR-PAT",)),)),
        Policies(silence_windows=(replace(POLL, closes_at=NOON),)),
        Policies(silence_windows=(replace(POLL, closes_at=NOON + 49 * HOURS),)),
        Policies(silence_windows=(POLL,), election_matter=()),
    ],
)
def test_other_polls_and_other_hours_silence_nobody(policies):
    assert at(NOON, policies=policies).ruling is Ruling.ALLOW


def test_a_welcome_is_no_election_matter_and_goes_at_night():
    assert at(NIGHT, FINE, certificate=None, policies=Policies(silence_windows=(POLL,))).reason is None


LIMITED = Avoided("whatsapp", "limit", NOON + HOURS)
CAP = FrequencyCap(("broadcast", "reminder"), 2, 7.0)


@pytest.mark.parametrize(
    ("now", "known", "reason", "until"),
    [
        (NIGHT, {}, "quiet_hours", NIGHT + 9 * HOURS),
        (
            NOON,
            {
                "spent": {"whatsapp": Spent(2, NOON + HOURS)},
                "policies": Policies(budgets=(Budget("whatsapp", 2),)),
            },
            "budget",
            NOON + HOURS,
        ),
        (NOON, {"paired": {"whatsapp": NOON + HOURS}}, "pair_rate", NOON + HOURS),
        (
            NOON,
            {
                "policies": Policies(frequency_caps=(CAP,)),
                "sent": [("broadcast", NOON - HOURS), ("reminder", NOON - 20 * HOURS), ("welcome", NOON)],
            },
            "frequency_cap",
            NOON + timedelta(days=7) - 20 * HOURS,
        ),
        (
            NOON,
            {"failed": [Avoided("email", "busy", NOON + 2 * HOURS), LIMITED]},
            "limit",
            NOON + HOURS,
        ),
    ],
)
def test_some_rules_defer_it_until_a_time(now, known, reason, until):
    verdict = at(now, **known)
    assert (verdict.ruling, verdict.reason, verdict.until) == (Ruling.DEFER, reason, until)


def test_of_two_reasons_to_wait_the_later_end_counts():
    verdict = at(NIGHT, paired={"whatsapp": NIGHT + 20 * HOURS})
    assert (verdict.reason, verdict.until) == ("quiet_hours", NIGHT + 20 * HOURS)


def test_promotional_sms_go_from_ten_whatever_the_policies_say():
    sms = replace(BROADCAST, consented=("sms",))
    early = NOON - 3 * HOURS  # 9:00
    free = replace(AS_SHIPPED, quiet_hours=(), zone="America/New_York")
    assert at(early, policies=free).ruling is Ruling.ALLOW, "other channels"
    assert at(early, sms, policies=free).until == NOON - 2 * HOURS
    hours = QuietHours("lunch", time(12), time(13), ("broadcast",), ("email",))
    assert at(NOON, policies=Policies(quiet_hours=(hours,), zone="Asia/Kolkata")).ruling is Ruling.ALLOW


def test_a_campaign_goes_to_adults():
    assert at(NOON, replace(BROADCAST, minor=True)).reason == "minor"
    assert at(NOON, replace(FINE, minor=True)).ruling is Ruling.ALLOW


@pytest.mark.parametrize(
    ("known", "channel"),
    [
        ({"preferred": "email"}, "email"),
        ({"preferred": "sms"}, "whatsapp"),
        ({"gateways": {"email"}}, "email"),
        ({"failed": [Avoided("whatsapp", "not_there")]}, "email"),
        ({"failed": [Avoided("whatsapp", "limit", NOON)]}, "whatsapp"),
        ({"unusable": {"whatsapp": "not_approved"}}, "email"),
    ],
)
def test_the_channel_is_the_first_that_is_left(known, channel):
    verdict = at(NOON, **known)
    assert (verdict.ruling, verdict.channel) == (Ruling.ALLOW, channel)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"gateways": {"sms"}}, "no_gateway"),
        ({"unusable": {"email": "not_exact", "whatsapp": "not_approved"}}, "not_approved"),
    ],
)
def test_without_any_way_it_is_held(known, reason):
    verdict = at(NOON, **known)
    assert (verdict.ruling, verdict.reason) == (Ruling.HOLD, reason)
