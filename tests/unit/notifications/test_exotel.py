"""SMS by Exotel: the tables, forms of callbacks, requests and answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest

from services.notifications.channels.exotel.callbacks import parse
from services.notifications.channels.exotel.errors import refusal
from services.notifications.channels.exotel.sender import ExotelSender, outcome
from services.notifications.core.channel import Approved, Message
from services.notifications.core.domain import Meaning, OutcomeClass
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.providers import Answer
from services.notifications.core.updates import Delivery, Inbound, Person, Report
from tests.unit.notifications.gateway_settings import gateway_settings

AT = datetime(2026, 11, 26, 13, 0, tzinfo=UTC)
FORM = {
    "SmsSid": "sid1",
    "To": "09876543210",
    "Status": "sent",
    "DetailedStatus": "DELIVERED_TO_OPERATOR",
    "DetailedStatusCode": "20001",
    "SmsUnits": "1",
    "DateSent": "2026-11-26 18:00:00",
    "CustomField": "n.1",
}


def read(**changed: Any) -> Report | None:
    form = {name: value for name, value in (FORM | changed).items() if value is not None}
    updates, skipped = parse(urlencode(form).encode(), AT)
    assert len(updates) + skipped == 1
    update = updates[0] if updates else None
    assert update is None or isinstance(update, Report)
    return update


def test_a_status_has_our_reference_and_its_time_in_india():
    assert read() == Report(
        "sid1",
        "n.1",
        Delivery.SENT,
        datetime(2026, 11, 26, 12, 30, tzinfo=UTC),
        person=Person("+919876543210"),
    )


@pytest.mark.parametrize(
    ("status", "detail", "delivery", "meaning"),
    [
        ("queued", None, Delivery.QUEUED, None),
        ("sending", None, Delivery.QUEUED, None),
        ("submitted", None, Delivery.SENT, None),
        ("sent", None, Delivery.SENT, None),
        ("delivered", "DELIVERED_TO_HANDSET", Delivery.DELIVERED, None),
        ("delivered", "DELIVERED_TO_OPERATOR", Delivery.SENT, None),
        ("failed", "FAILED_DND", Delivery.FAILED, Meaning.ROUTE),
        ("failed", "FAILED_DLT_TEMPLATE", Delivery.FAILED, Meaning.TEMPLATE),
        ("failed", "FAILED_DLT_SCRUBBING", Delivery.FAILED, Meaning.TEMPLATE),
        ("failed", "FAILED_DLT_CONSENT", Delivery.FAILED, Meaning.ROUTE),
        ("failed", "FAILED_INVALID_NUMBER", Delivery.FAILED, Meaning.RECIPIENT),
        ("failed", "EC_INVALID_PROMO_TIME", Delivery.FAILED, Meaning.DEFER),
        ("sent", "FAILED_OF_A_NEW_KIND", Delivery.FAILED, Meaning.MESSAGE),
        ("expired", None, Delivery.FAILED, Meaning.RECIPIENT),
        ("undelivered", None, Delivery.FAILED, Meaning.RECIPIENT),
    ],
)
def test_every_status_by_its_text_whatever_its_number(status, detail, delivery, meaning):
    for number in ("20000", "20005", None):
        report = read(Status=status, DetailedStatus=detail, DetailedStatusCode=number)
        assert report is not None
        assert (report.status, report.meaning) == (delivery, meaning)


def test_the_number_of_a_failure_is_kept_beside_its_text():
    report = read(Status="failed", DetailedStatus="FAILED_DND", DetailedStatusCode="30010")
    assert report is not None
    assert report.code == "failed_dnd:30010"


@pytest.mark.parametrize("changed", [{"Status": "new"}, {"SmsSid": "x" * 300}, {"Status": None}])
def test_a_status_that_is_unknown_is_skipped(changed):
    if "Status" in changed:
        changed["DetailedStatus"] = None
    assert read(**changed) is None


@pytest.mark.parametrize("date", ["", "yesterday", "1999-01-01", "2036-01-01 00:00:00"])
def test_a_time_that_cannot_be_is_that_of_the_callback(date):
    report = read(DateSent=date)
    assert report is not None
    assert report.at == AT


def test_a_missed_call():
    form = {"CallSid": "c1", "CallFrom": "09876543210", "CallTo": "08012345678", "CallType": "call-attempt"}
    assert parse(urlencode(form).encode(), AT) == (
        [Inbound("c1", Person("+919876543210"), AT, to="+918012345678", missed_call=True)],
        0,
    )


@pytest.mark.parametrize("date", ["DateCreated", "Date"])
def test_an_sms_to_a_number_of_ours(date):
    """`Date` is of the older applet."""
    form = {"SmsSid": "s1", "From": "09876543210", "To": "08012345678", "Body": "STOP"}
    at = AT.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(timespec="seconds")
    assert parse(urlencode({**form, date: at}).encode(), AT) == (
        [Inbound("s1", Person("+919876543210"), AT, to="+918012345678", text="STOP")],
        0,
    )
    assert parse(urlencode({**form, "From": "a header"}).encode(), AT) == ([], 1)


@pytest.mark.parametrize("body", [b"", b"{}", b"a=b", b"\xff", b"SmsSid=1&" * 200, b"x" * 70_000])
def test_what_is_no_form_of_exotel_is_refused(body):
    with pytest.raises(ValueError):
        parse(body, AT)


@pytest.mark.parametrize(
    ("answer", "kind", "meaning"),
    [
        (Answer(200, {"SMSMessage": {"Sid": "s", "Status": "queued"}}), "sent", None),
        (Answer(202, {"SMSMessage": {"Sid": "s", "Status": "queued"}}), "sent", None),
        (Answer(200, {"SMSMessage": {"Status": "queued"}}), "unknown", None),
        (Answer(200, None), "unknown", None),
        (
            Answer(200, {"SMSMessage": {"Sid": "s", "Status": "failed", "DetailedStatus": "FAILED_DND"}}),
            "permanent",
            Meaning.ROUTE,
        ),
        (Answer(400, {"RestException": {"Status": 400, "Code": 34001}}), "permanent", Meaning.BUG),
        (Answer(403, {"RestException": {"Status": 403}}), "transient", Meaning.CHANNEL),
        (Answer(402, {"RestException": {"Status": 402}}), "transient", Meaning.CHANNEL),
        (Answer(503, {"RestException": {"Status": 503}}), "transient", Meaning.RETRY),
        (Answer(503, None), "unknown", None),
        (Answer(401, None), "transient", Meaning.CHANNEL),
        (Answer(429, None, 5.0), "transient", Meaning.RETRY),
    ],
)
def test_only_an_answer_in_exotel_s_form_is_believed(answer, kind, meaning):
    found = outcome(answer)
    assert (found.kind, found.meaning) == (OutcomeClass(kind), meaning)


def test_a_status_of_http_that_the_table_lacks_fails_the_message():
    assert refusal(418).meaning is Meaning.MESSAGE


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("transactional", "transactional"),
        ("service_implicit", "transactional"),
        ("service_explicit", "transactional_opt_in"),
        ("promotional", "promotional"),
    ],
)
async def test_a_form_has_the_ids_of_the_register(metrics: NotificationMetrics, category: str, kind: str):
    sender = ExotelSender(gateway_settings(), metrics)
    approved = Approved("1107000000000000001", "hi", category, (), header="ORGHDR")
    message = Message(
        id="n",
        member_id="m",
        channel="sms",
        language="hi",
        unit="BR",
        address="+919876543210",
        text="नमस्ते",
        reference="n.1",
        approved=approved,
    )
    assert sender.form_of(message) == {
        "From": "ORGHDR",
        "To": "+919876543210",
        "Body": "नमस्ते",
        "EncodingType": "unicode",
        "DltEntityId": "1001",
        "DltTemplateId": "1107000000000000001",
        "SmsType": kind,
        "CustomField": "n.1",
        "StatusCallback": "https://example.org/callbacks/sesame",
    }
    await sender.close()


def test_no_secret_is_shown():
    shown = repr(gateway_settings()) + str(gateway_settings())
    assert not {word for word in ("sesame", "k3y", "t0ken", "passw0rd", "EAAG") if word in shown}
