"""The rules of updates: ranks, acts of people, words, signatures and identities."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.core.deliveries.domain import DeliveryRecord
from services.notifications.core.fingerprints import canonical
from services.notifications.core.suppressions.domain import (
    INFERRED,
    MESSAGES,
    START_WORD,
    STOP_WORD,
    Act,
    Suppression,
    apply_act,
)
from services.notifications.core.updates import Delivery, Report
from services.notifications.webhooks.domain import Seen, identity_id, learn, whose
from services.notifications.webhooks.signatures import is_signed
from services.notifications.webhooks.words import STARTS, STOPS, Wish, wish_of

T0 = datetime(2026, 11, 27, tzinfo=UTC)
times = st.integers(0, 5).map(lambda seconds: T0 + timedelta(seconds=seconds))


def a_record() -> DeliveryRecord:
    return DeliveryRecord(
        id="n.1",
        notification_id="n",
        member_id="m",
        unit="BR",
        purpose="welcome",
        channel="sms",
        sender="exotel",
        account="a",
        sent_from="SNGTHN",
        reached={},
        created_at=T0,
        changed_at=T0,
    )


def told(reports: list[Report]) -> DeliveryRecord:
    record = a_record()
    for report in reports:
        record = record.advanced(report, T0)
    return record


reports = st.lists(
    st.builds(Report, st.none(), st.none(), st.sampled_from(Delivery), times, st.just("code")), max_size=8
)


@given(reports, st.data())
def test_reports_in_any_order_and_repeated_end_alike(some: list[Report], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations([*some, *some]))
    assert told(some) == told(shuffled)


@given(reports)
def test_a_status_never_goes_back(some: list[Report]) -> None:
    """queued < sent < delivered < read; failed only over queued and sent."""
    wins_over = {
        Delivery.QUEUED: set(),
        Delivery.SENT: {Delivery.QUEUED},
        Delivery.FAILED: {Delivery.QUEUED, Delivery.SENT},
        Delivery.DELIVERED: {Delivery.QUEUED, Delivery.SENT, Delivery.FAILED},
        Delivery.READ: {Delivery.QUEUED, Delivery.SENT, Delivery.FAILED, Delivery.DELIVERED},
    }
    record = a_record()
    for report in some:
        before, record = record.status, record.advanced(report, T0)
        expected = report.status if before in wins_over[report.status] else before
        assert record.status == expected
        assert (record.code is not None) == (record.status == Delivery.FAILED)


def an_act(stops: bool, at: datetime, via: str = "") -> Act:
    return Act("sms:f", "sms", stops, MESSAGES, via or (STOP_WORD if stops else START_WORD), at)


def after(acts: list[Act]) -> Suppression | None:
    entry: Suppression | None = None
    for act in acts:
        entry = apply_act(entry, act, T0) or entry
    return entry


acts = st.lists(st.builds(an_act, st.booleans(), times), min_size=1, max_size=8)


@given(acts, st.data())
def test_the_last_wish_counts_in_whatever_order_it_comes(some: list[Act], data: st.DataObject) -> None:
    entry = after(data.draw(st.permutations([*some, *some])))
    assert entry is not None
    assert entry.stopped == max((act.at, act.stops) for act in some)[1]


@given(acts, times)
def test_an_error_of_a_gateway_never_outweighs_a_person(some: list[Act], at: datetime) -> None:
    """It stops what a person had started before, and is lifted by any start; a person's stop stays theirs."""
    own = after(some)
    assert own is not None
    inferred = after([*some, an_act(True, at, INFERRED)])
    assert inferred is not None
    if own.stopped:
        assert inferred == own
    assert not after([an_act(True, at, INFERRED), an_act(False, T0)]).stopped  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("STOP", Wish.STOP),
        ("  stop!! \U0001f64f", Wish.STOP),
        ("\uff33\uff34\uff2f\uff30", Wish.STOP),
        ("Opt-Out", Wish.STOP),
        ("Don\u2019t message me", Wish.STOP),
        ("Band karo.", Wish.STOP),
        ("BAND  KAR  DO", Wish.STOP),
        ("msg mat bhejo", Wish.STOP),
        ("रोकें", Wish.STOP),
        ("रोकें।", Wish.STOP),
        ("बंद करो", Wish.STOP),
        ("बन्द करें", Wish.STOP),
        ("मैसेज मत भेजो", Wish.STOP),
        ("नहीं चाहिए", Wish.STOP),
        ("स्टॉप", Wish.STOP),
        ("unsubscribe", Wish.STOP),
        ("start", Wish.START),
        ("चालू करें", Wish.START),
        ("shuru karo", Wish.START),
        ("We have got to STOP this bill", None),
        ("non-stop", None),
        ("don't stop", None),
        ("हाँ", None),
        ("yes", None),
        ("बंद करो यह बिल", None),
        ("ruko", None),
        ("", None),
        (None, None),
        ("stop " * 1000, None),
    ],
)
def test_only_a_whole_message_is_a_wish(text: str | None, wish: Wish | None) -> None:
    assert wish_of(text) is wish


def test_no_word_both_stops_and_starts() -> None:
    assert not STOPS & STARTS
    assert all(wish_of(word.upper()) is Wish.STOP for word in STOPS)


def test_the_signature_of_the_field_guide() -> None:
    secret, body = "test_app_secret", b'{"object":"whatsapp_business_account","entry":[]}'
    right = "sha256=dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756"
    assert is_signed(body, right, secret)
    assert not is_signed(body.replace(b",", b", "), right, secret)
    assert not any(
        is_signed(body, wrong, secret) for wrong in (None, "", right[:-1], right + "0", right.upper())
    )


@pytest.mark.parametrize(
    "written", ["+919800000001", "919800000001", "09800000001", "9800000001", "98000 00001", "00919800000001"]
)
def test_a_number_is_one_however_it_is_written(written: str) -> None:
    assert canonical("sms", written) == "+919800000001"


def test_numbers_of_other_countries_stay_theirs() -> None:
    assert (
        canonical("whatsapp", "+9779800000001") == canonical("whatsapp", "9779800000001") == "+9779800000001"
    )


def test_an_identity_goes_to_one_member_and_a_member_has_one_identity() -> None:
    of = ("whatsapp", "acct")
    first = learn(None, Seen("U1", T0, "p", "m1"), [], *of)
    assert (first.id, first.member_id) == (identity_id(*of, "U1"), "m1")
    other = learn(first, Seen("U1", T0, "p", "m2"), [], *of)
    assert (other.member_id, other.rivals) == ("m1", True)
    second = learn(None, Seen("U2", T0, "p", "m1"), [first], *of)
    assert (second.member_id, second.rivals) == (None, True)
    assert (
        learn(None, Seen("U2", T0, "p", "m1"), [learn(first, Seen("U1", T0), [], *of)], *of).member_id is None
    )


def test_who_has_written_is_somebody_only_if_nothing_contradicts() -> None:
    assert whose("m1", None, "m1") == ("m1", False)
    assert whose("m1", "m1", "m2") == (None, True)
    assert whose(None, None, None) == (None, False)
