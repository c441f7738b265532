"""The life of a notification, one transition at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifications.core.domain import (
    Attempt,
    Attempted,
    Cause,
    Decision,
    Deferred,
    Handed,
    Held,
    Meaning,
    Notification,
    NotTaken,
    OutcomeClass,
    Patience,
    RetryPolicy,
    SendOutcome,
    State,
    Suppressed,
    Unanswered,
    conclude,
    follow,
    notification_id,
    queue_promised,
    queue_welcome,
    reported,
    resend,
)
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import Avoided
from services.shared.contracts.base import Event, Step
from tests.fixtures.ids import id_of

NOW = datetime(2025, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=60)
EXPIRY = NOW + timedelta(days=30)
WAITS = NOW + timedelta(days=1)
PATIENCE = Patience(WAITS - NOW, EXPIRY - NOW)
POLICY = RetryPolicy(tries=3, first_seconds=30)
G, H, M, N = map(id_of, "ghmn")
MEMBER = Recipient(M, joined=True, unit="BR-A", language="hi", channels=("sms", "whatsapp"), group_id=G)


def made(recipient: Recipient = MEMBER, *, invited: bool = True) -> Step[Notification]:
    return queue_welcome(
        recipient,
        invited=invited,
        language="hi",
        cause=Cause("c", "t"),
        now=NOW,
        patience=PATIENCE,
    )


def sending(**changes: Any) -> Notification:
    claimed = replace(made().state, state=State.SENDING, claim="x", due_at=LATER)
    return replace(claimed, **changes)


def event_of(step: Step[Notification]) -> Event:
    """The one event of a step, which carries the sequence after it."""
    [(event, sequence)] = step.events
    assert sequence == step.state.sequence
    return event


def tried(kind: OutcomeClass, error_class: str | None = None) -> Attempted:
    return Attempted(SendOutcome(kind, error_class), "recording", "sms", "en", "BR-Z")


def test_a_welcome_is_due_at_once_when_nothing_is_missing():
    step = made()
    assert (step.state.state, step.state.due_at) == (State.QUEUED, NOW)
    assert event_of(step).model_dump() == {
        "notification_id": notification_id("welcome", "joined", M),
        "member_id": M,
        "unit": "BR-A",
        "purpose": "welcome",
        "template": "welcome",
        "language": "hi",
        "channel": "whatsapp",
        "group_id": G,
        "held_for": None,
    }
    assert step.state.sequence == 1


@pytest.mark.parametrize(("group_id", "held_for"), [(None, "no_group"), (G, "no_invite")])
def test_a_welcome_is_held_for_what_is_missing(group_id, held_for):
    step = made(replace(MEMBER, group_id=group_id), invited=False)
    assert (step.state.held_for, step.state.due_at, step.state.expires_at) == (held_for, WAITS, EXPIRY)
    assert event_of(step).model_dump()["held_for"] == held_for


@pytest.mark.parametrize(
    ("changed", "reason", "channel"),
    [({"channels": ()}, "no_consent", None), ({"active": False}, "left", "whatsapp")],
)
def test_a_welcome_that_may_never_go_begins_suppressed(changed, reason, channel):
    step = made(replace(MEMBER, **changed))
    n = step.state
    assert (n.state, n.reason, n.channel, n.sequence) == (State.SUPPRESSED, reason, channel, 1)
    assert event_of(step).event_type == "notification.suppressed"


def test_a_link_that_arrives_lets_a_held_welcome_go():
    held = made(invited=False).state
    step = follow(held, MEMBER, invited=True, language="hi", now=LATER)
    assert (step.state.held_for, step.state.due_at, step.events) == (None, LATER, ())


def test_a_move_while_held_targets_the_new_group():
    held = made(invited=False).state
    moved = replace(MEMBER, unit="BR-B", group_id=H)
    n = follow(held, moved, invited=True, language="hi", now=LATER).state
    assert (n.unit, n.group_id, n.held_for) == ("BR-B", H, None)


def test_a_retry_keeps_its_time_when_the_member_changes():
    waiting = replace(made().state, due_at=LATER)
    n = follow(waiting, replace(MEMBER, language="en"), invited=True, language="en", now=NOW).state
    assert (n.due_at, n.language) == (LATER, "en")


def test_leaving_suppresses_what_is_queued_and_marks_what_is_being_sent():
    gone = replace(MEMBER, active=False)
    step = follow(made().state, gone, invited=True, language="hi", now=LATER)
    assert (step.state.state, step.state.reason, step.state.sequence) == (
        State.SUPPRESSED,
        "left",
        2,
    )
    marked = follow(sending(), gone, invited=True, language="hi", now=LATER)
    assert (marked.state.state, marked.state.stop, marked.events) == (
        State.SENDING,
        "left",
        (),
    )


def test_losing_the_group_while_being_sent_leaves_the_claim_alone():
    n = follow(sending(), replace(MEMBER, group_id=None), invited=False, language="hi", now=NOW).state
    assert (n.state, n.held_for, n.due_at) == (State.SENDING, "no_group", LATER)


def test_what_is_finished_follows_only_the_unit():
    sent = conclude(sending(), tried(OutcomeClass.SENT), policy=POLICY, now=NOW).state
    step = follow(sent, replace(MEMBER, unit="BR-B", active=False), invited=True, language="ur", now=LATER)
    assert step.state == replace(sent, unit="BR-B", updated_at=LATER)
    assert step.events == ()


def test_following_what_did_not_change_changes_nothing():
    current = made().state
    assert follow(current, MEMBER, invited=True, language="hi", now=LATER) == (current, ())


def test_sent():
    step = conclude(sending(), tried(OutcomeClass.SENT), policy=POLICY, now=NOW)
    n = step.state
    assert (n.state, n.channel, n.language, n.due_at, n.claim) == (State.SENT, "sms", "en", None, None)
    assert event_of(step).model_dump()["attempts"] == 1
    assert (n.unit, event_of(step).model_dump()["unit"]) == ("BR-Z", "BR-Z")  # as members says, not the log


def test_a_transient_failure_is_tried_again_with_a_doubling_pause_and_then_given_up():
    n, pauses = sending(), []
    for _ in range(POLICY.tries - 1):
        step = conclude(n, tried(OutcomeClass.TRANSIENT, "throttled"), policy=POLICY, now=NOW)
        assert step.events == ()
        assert step.state.due_at is not None
        pauses.append((step.state.due_at - NOW).total_seconds())
        n = replace(step.state, state=State.SENDING, claim="x")
    step = conclude(n, tried(OutcomeClass.TRANSIENT, "throttled"), policy=POLICY, now=NOW)
    assert pauses == [30, 60]
    assert (step.state.state, step.state.reason) == (State.FAILED, "tries_exhausted")
    assert [a.error_class for a in step.state.attempts] == ["throttled"] * 3
    assert event_of(step).model_dump()["error_class"] == "tries_exhausted"


def test_the_pause_ends_growing_at_an_hour():
    attempt = Attempt(NOW, "recording", OutcomeClass.TRANSIENT)
    tried_often = sending(attempts=(attempt,) * 50)
    outcome = SendOutcome(OutcomeClass.TRANSIENT)
    assert RetryPolicy(100, 30).next_try(tried_often, outcome, NOW) - NOW == timedelta(hours=1)


def test_a_permanent_failure_ends_it_at_once():
    step = conclude(sending(), tried(OutcomeClass.PERMANENT, "blocked"), policy=POLICY, now=NOW)
    assert (step.state.state, step.state.reason) == (State.FAILED, "blocked")


def test_what_gets_no_answer_is_tried_again_and_fails_with_that_reason_in_the_end():
    n = sending()
    for tries in range(1, POLICY.tries):
        step = conclude(n, Unanswered("members", "peer_refused"), policy=POLICY, now=NOW)
        assert (step.state.state, len(step.state.attempts), step.events) == (State.QUEUED, tries, ())
        n = replace(step.state, state=State.SENDING, claim="x")
    step = conclude(n, Unanswered("members", "peer_refused"), policy=POLICY, now=NOW)
    told = event_of(step).model_dump()
    assert (step.state.state, told["error_class"], told["sender"], told["unit"]) == (
        State.FAILED,
        "peer_refused",
        "members",
        "BR-A",
    )


def test_refused_by_the_gate():
    step = conclude(sending(), Suppressed("no_address", "email"), policy=POLICY, now=NOW)
    n = step.state
    assert (n.state, n.reason, n.channel, n.attempts) == (State.SUPPRESSED, "no_address", "email", ())


@pytest.mark.parametrize(("held_for", "due_at"), [(None, LATER), ("no_invite", WAITS)])
def test_postponed_goes_back_to_the_queue_without_a_try(held_for, due_at):
    step = conclude(sending(held_for=held_for), Deferred(LATER), policy=POLICY, now=NOW)
    n = step.state
    assert (n.state, n.claim, n.due_at, n.attempts, step.events) == (State.QUEUED, None, due_at, (), ())


def test_who_left_meanwhile_is_not_tried_again():
    result = tried(OutcomeClass.TRANSIENT, "throttled")
    n = conclude(sending(stop="left", held_for="no_group"), result, policy=POLICY, now=NOW).state
    assert (n.state, n.reason, n.due_at) == (State.SUPPRESSED, "left", None)


HANDED = Handed(1, NOW, "exotel", "sms")
UNKNOWN = SendOutcome(OutcomeClass.UNKNOWN)
TAKEN = SendOutcome(OutcomeClass.SENT, provider_id="sid")


def refused(meaning: Meaning, *, kind: OutcomeClass = OutcomeClass.PERMANENT) -> SendOutcome:
    return SendOutcome(kind, "word", meaning)


def by_gateway(outcome: SendOutcome) -> Attempted:
    return Attempted(outcome, "exotel", "sms", "hi", "BR-A")


def awaiting() -> Notification:
    """One whose outcome is unknown."""
    return conclude(sending(handed=HANDED), by_gateway(UNKNOWN), policy=POLICY, now=NOW).state


@pytest.mark.parametrize(
    "result", [by_gateway(UNKNOWN), Deferred(NOW), Suppressed("left", "sms"), Unanswered("members", "x")]
)
def test_what_was_handed_over_without_a_clear_answer_is_not_sent_again(result):
    step = conclude(sending(handed=HANDED), result, policy=POLICY, now=NOW)
    n = step.state
    assert (n.state, n.held_for, n.handed, n.claim) == (State.SENDING, "outcome", HANDED, None)
    assert [a.outcome for a in n.attempts] == [OutcomeClass.UNKNOWN]
    assert (n.due_at, step.events) == (NOW + timedelta(minutes=1), ())


def test_an_unknown_outcome_is_looked_for_ever_more_seldom_and_given_up_after_a_day():
    n, now, looks = awaiting(), NOW, 0
    while n.state.is_open:
        assert n.due_at is not None
        now, looks = n.due_at, looks + 1
        n = conclude(replace(n, claim="y"), Deferred(now), policy=POLICY, now=now).state
        assert len(n.attempts) == 1
    assert (n.state, n.reason, now - NOW) == (State.FAILED, "outcome_unknown", timedelta(days=1))
    assert looks == 12


def test_news_settle_an_unknown_outcome_once():
    step = reported(awaiting(), 1, TAKEN, policy=POLICY, now=LATER)
    assert (step.state.state, step.state.handed, step.state.held_for) == (State.SENT, None, None)
    assert event_of(step).event_type == "notification.sent"
    assert [a.outcome for a in step.state.attempts] == [OutcomeClass.SENT]
    assert reported(step.state, 1, TAKEN, policy=POLICY, now=LATER) == Step(step.state)
    again = reported(
        awaiting(), 1, refused(Meaning.RETRY, kind=OutcomeClass.TRANSIENT), policy=POLICY, now=LATER
    )
    assert (again.state.state, again.state.last_handed) == (State.QUEUED, 1)


def test_news_of_another_handing_over_change_nothing():
    for number in (0, 2):
        assert reported(awaiting(), number, TAKEN, policy=POLICY, now=LATER) == Step(awaiting())


def test_a_callback_that_is_faster_than_the_record_counts():
    step = reported(sending(handed=HANDED), 1, TAKEN, policy=POLICY, now=NOW)
    assert (step.state.state, step.state.claim) == (State.SENT, None)


@pytest.mark.parametrize("meaning", [Meaning.RECIPIENT, Meaning.ROUTE, Meaning.DEFER])
def test_what_fails_for_its_recipient_avoids_the_channel(meaning):
    step = conclude(sending(handed=HANDED), by_gateway(refused(meaning)), policy=POLICY, now=NOW)
    n = step.state
    assert (n.state, n.due_at, n.handed, step.events) == (State.QUEUED, NOW, None, ())
    until = NOW + timedelta(days=1) if meaning is Meaning.DEFER else None
    assert n.avoided == (Avoided("sms", "word", until),)
    assert bool(n.avoids(NOW + timedelta(days=1))) is (until is None)


@pytest.mark.parametrize("meaning", [Meaning.MESSAGE, Meaning.BUG, Meaning.CONSENT])
def test_what_fails_as_it_is_ends(meaning):
    step = conclude(sending(handed=HANDED), by_gateway(refused(meaning)), policy=POLICY, now=NOW)
    assert (step.state.state, step.state.reason) == (State.FAILED, "word")


def test_what_was_sent_and_cannot_be_delivered_is_queued_again_within_a_day():
    sent = conclude(sending(handed=HANDED), by_gateway(TAKEN), policy=POLICY, now=NOW).state
    step = reported(sent, 1, refused(Meaning.RECIPIENT), policy=POLICY, now=LATER)
    assert (step.state.state, step.state.due_at) == (State.QUEUED, LATER)
    assert event_of(step).event_type == "notification.queued"
    assert reported(step.state, 1, refused(Meaning.RECIPIENT), policy=POLICY, now=LATER).events == ()
    late = reported(sent, 1, refused(Meaning.RECIPIENT), policy=POLICY, now=NOW + timedelta(days=3))
    assert (late.state.state, event_of(late).event_type) == (State.FAILED, "notification.failed")


def test_a_fault_of_the_gateway_counts_no_try():
    step = conclude(sending(handed=HANDED), NotTaken(LATER), policy=POLICY, now=NOW)
    n = step.state
    assert (n.state, n.due_at, n.attempts, n.handed) == (State.QUEUED, LATER, (), None)


def test_events_leave_alone_what_is_with_a_gateway_but_for_the_reason_to_stop():
    gone = replace(MEMBER, active=False)
    n = follow(awaiting(), gone, invited=True, language="en", now=LATER).state
    assert (n.state, n.held_for, n.channel, n.language, n.stop) == (
        State.SENDING,
        "outcome",
        "sms",
        "hi",
        "left",
    )
    failed = reported(n, 1, refused(Meaning.RECIPIENT), policy=POLICY, now=LATER).state
    assert (failed.state, failed.reason) == (State.SUPPRESSED, "left")


def test_pauses_are_spread_and_a_pair_s_grow_by_four():
    spread = RetryPolicy(9, 30, spread=0.25)
    busy = refused(Meaning.RETRY, kind=OutcomeClass.TRANSIENT)
    attempts = (Attempt(NOW, "exotel", OutcomeClass.TRANSIENT),)
    pauses = {
        (spread.next_try(sending(id=id_of(str(i)), attempts=attempts), busy, NOW) - NOW).total_seconds()
        for i in range(20)
    }
    assert len(pauses) == 20
    assert all(30 <= pause <= 37.5 for pause in pauses)
    pair = refused(Meaning.PAIR, kind=OutcomeClass.TRANSIENT)
    assert POLICY.next_try(sending(attempts=attempts * 3), pair, NOW) == NOW + timedelta(seconds=64)
    asked = replace(busy, retry_after=500.0)
    assert POLICY.next_try(sending(attempts=attempts), asked, NOW) == NOW + timedelta(seconds=500)


def test_a_welcome_that_has_waited_waits_for_no_event_any_more():
    held = made(invited=False).state
    n = follow(held, replace(MEMBER, group_id=None), invited=False, language="hi", now=WAITS).state
    assert (n.state, n.held_for, n.due_at) == (State.QUEUED, None, WAITS)


@pytest.mark.parametrize("held_for", [None, "no_invite"])
@pytest.mark.parametrize(
    ("result", "then"), [(Deferred(EXPIRY), None), (Held("no_address", EXPIRY), "no_address")]
)
def test_one_that_has_waited_is_looked_at_when_the_dispatcher_says(held_for, result, then):
    n = conclude(sending(held_for=held_for), result, policy=POLICY, now=WAITS).state
    assert (n.state, n.held_for, n.due_at) == (State.QUEUED, then, EXPIRY)


def test_a_welcome_that_went_without_a_link_says_so_and_invites_to_no_group():
    result = replace(tried(OutcomeClass.SENT), without="no_invite")
    step = conclude(sending(), result, policy=POLICY, now=WAITS)
    told = event_of(step).model_dump()
    assert (step.state.without, told["without"], told["group_id"]) == ("no_invite", "no_invite", None)
    again = replace(tried(OutcomeClass.TRANSIENT, "throttled"), without="no_invite")
    n = conclude(sending(), again, policy=POLICY, now=WAITS).state
    assert (n.group_id, n.without) == (G, None), "the link may come before the next try"


@pytest.mark.parametrize(("group_id", "held_for"), [(None, "no_group"), (G, "no_invite")])
def test_a_promised_invite_waits_for_the_link_until_it_expires(group_id, held_for):
    recipient = replace(MEMBER, group_id=group_id)
    step = queue_promised(
        recipient, invited=False, language="hi", cause=Cause("c", "t"), now=NOW, expires_at=EXPIRY
    )
    n = step.state
    assert (n.id, n.held_for, n.due_at) == (
        notification_id("welcome", "promised_invite", M),
        held_for,
        EXPIRY,
    )
    late = follow(n, MEMBER, invited=False, language="hi", now=EXPIRY - timedelta(days=1)).state
    assert (late.held_for, late.due_at) == ("no_invite", EXPIRY)
    ready = follow(n, MEMBER, invited=True, language="hi", now=LATER).state
    assert (ready.held_for, ready.due_at, ready.group_id) == (None, LATER, G)


def test_a_deferred_one_says_so_once_for_each_reason():
    decision = Decision(NOW, "defer", "quiet_hours", "quiet_hours", "sms", LATER, 2, 0)
    step = conclude(sending(), Deferred(LATER, "quiet_hours"), policy=POLICY, now=NOW, decision=decision)
    n = step.state
    assert (n.state, n.deferred_for, n.due_at) == (State.QUEUED, "quiet_hours", LATER)
    assert event_of(step).model_dump()["reason"] == "quiet_hours"
    again = replace(n, state=State.SENDING, claim="y")
    later = replace(decision, at=LATER)
    step = conclude(again, Deferred(EXPIRY, "quiet_hours"), policy=POLICY, now=LATER, decision=later)
    assert step.events == ()
    assert step.state.decisions == (decision,), "a repeated decision is kept once"
    other = replace(decision, reason="budget", rule="budget")
    step = conclude(again, Deferred(EXPIRY, "budget"), policy=POLICY, now=LATER, decision=other)
    assert event_of(step).model_dump()["reason"] == "budget"
    assert step.state.decisions == (decision, other)
    gone = conclude(again, tried(OutcomeClass.SENT), policy=POLICY, now=LATER).state
    assert (gone.state, gone.deferred_for) == (State.SENT, None)


def test_the_newest_decisions_are_kept():
    n = sending()
    for i in range(50):
        decision = Decision(NOW, "hold", "address", f"r{i}", None, None, 2, 0)
        n = conclude(n, Deferred(LATER), policy=POLICY, now=NOW, decision=decision).state
    assert [each.reason for each in n.decisions or ()] == [f"r{i}" for i in range(30, 50)]


def test_what_has_failed_is_sent_again_with_all_its_tries_but_not_what_may_have_gone():
    failed = conclude(sending(), tried(OutcomeClass.PERMANENT, "refused"), policy=POLICY, now=NOW).state
    step = resend(replace(failed, avoided=(Avoided("sms", "refused"),)), LATER, LATER + timedelta(days=7))
    n = step.state
    assert (n.state, n.reason, n.avoided, n.due_at, n.tries) == (State.QUEUED, None, None, LATER, 0)
    assert type(event_of(step)).__name__ == "NotificationQueued"
    for _ in range(POLICY.tries):
        assert n.state.is_open
        n = replace(n, state=State.SENDING, claim="x")
        n = conclude(n, tried(OutcomeClass.TRANSIENT, "busy"), policy=POLICY, now=LATER).state
    assert (n.state, n.reason, len(n.attempts)) == (State.FAILED, "tries_exhausted", 1 + POLICY.tries)
    for stays in (replace(failed, reason="outcome_unknown"), made().state):
        assert resend(stays, LATER, EXPIRY) == Step(stays)
