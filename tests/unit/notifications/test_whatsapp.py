"""WhatsApp: the table of errors, requests, answers, and every kind of callback."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from services.notifications.channels.whatsapp.callbacks import MAX_BODY, parse
from services.notifications.channels.whatsapp.errors import BY_CODE, error_of
from services.notifications.channels.whatsapp.sender import outcome, request_of
from services.notifications.core.channel import Approved, Message
from services.notifications.core.domain import Meaning, OutcomeClass
from services.notifications.core.providers import Answer
from services.notifications.core.updates import (
    Delivery,
    IdentityChanged,
    Inbound,
    LimitTold,
    Notice,
    Person,
    PreferenceChanged,
    Report,
)

AT = datetime.fromtimestamp(1_795_600_500, UTC)
"""When the callbacks below arrive."""
ASHA = Person("+919800000001", "IN.1000000000000000001")
METADATA = {"display_phone_number": "911140000000", "phone_number_id": "900000000000002"}
CONTACTS = [{"profile": {"name": "Asha"}, "wa_id": "919800000001", "user_id": "IN.1000000000000000001"}]

BY_MEANING = {
    Meaning.CHANNEL: {0, 190, 3, 10, 131005, 200, 250, 299, 368, 131031, 131042, 131044, 131063, 131064},
    Meaning.NUMBER: {131048, 131045, 133010, 131037}
    | {133000, 133005, 133006, 133008, 133009, 133015, 133016},
    Meaning.RETRY: {4, 80007, 130429, 1, 2, 131000, 131016, 131057, 133004, 135000, 131204, 131208},
    Meaning.PAIR: {131056},
    Meaning.DEFER: {131049},
    Meaning.RECIPIENT: {131021, 131026, 137000},
    Meaning.ROUTE: {130497, 131047, 131062},
    Meaning.CONSENT: {131050},
    Meaning.BUG: {100, 131008, 131009, 131051},
    Meaning.MESSAGE: {131030, 131052, 131053, 130472, 131020, 131041, 131201, 131215},
    Meaning.TEMPLATE: {132000, 132001, 132005, 132007, 132008, 132012, 132015, 132016, 132068, 132069},
}


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def callback(*changes: dict[str, Any], **entry: Any) -> bytes:
    entries = [{"id": "900000000000001", "changes": list(changes), **entry}]
    return orjson.dumps({"object": "whatsapp_business_account", "entry": entries})


def messages(**value: Any) -> dict[str, Any]:
    return {
        "field": "messages",
        "value": {"messaging_product": "whatsapp", "metadata": METADATA, **value},
    }


@pytest.mark.parametrize("meaning", Meaning)
def test_every_code_has_its_meaning(meaning):
    assert {code for code in BY_MEANING[meaning] if error_of(code).meaning is not meaning} == set()


def test_the_table_has_no_code_that_the_test_does_not_know_of():
    tested = set().union(*BY_MEANING.values()) | set(range(200, 300)) | set(range(131201, 131216))
    assert set(BY_CODE) == tested


def test_an_unknown_code_fails_the_message_unless_it_is_a_fault_of_the_server():
    assert error_of(999_999).meaning is Meaning.MESSAGE
    assert error_of(None, status=503).meaning is Meaning.RETRY


def test_a_sent_status_and_its_price_and_our_reference():
    status = {
        "id": "wamid.OUT1",
        "status": "sent",
        "timestamp": "1795600000",
        "recipient_id": "919800000001",
        "recipient_user_id": "IN.1000000000000000001",
        "biz_opaque_callback_data": "d:01JF5Z",
        "pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "utility"},
    }
    assert parse(callback(messages(contacts=CONTACTS, statuses=[status])), AT) == (
        [
            Report(
                "wamid.OUT1",
                "d:01JF5Z",
                Delivery.SENT,
                at(1795600000),
                person=ASHA,
                category="utility",
            )
        ],
        0,
    )


def test_statuses_to_somebody_whose_number_is_withheld():
    common = {"id": "wamid.OUT2", "recipient_user_id": "IN.1000000000000000001"}
    contacts = [{"profile": {"name": "Asha", "username": "@asha.k"}, "user_id": "IN.1000000000000000001"}]
    statuses = [
        {**common, "status": "delivered", "timestamp": "1795600009"},
        {**common, "status": "read", "timestamp": "1795600042"},
    ]
    updates, skipped = parse(callback(messages(contacts=contacts, statuses=statuses)), AT)
    person = Person(None, "IN.1000000000000000001")
    assert updates == [
        Report("wamid.OUT2", None, Delivery.DELIVERED, at(1795600009), person=person),
        Report("wamid.OUT2", None, Delivery.READ, at(1795600042), person=person),
    ]
    assert skipped == 0


def test_a_failure_without_contacts():
    status = {
        "id": "wamid.OUT3",
        "status": "failed",
        "timestamp": "1795600100",
        "recipient_id": "919800000002",
        "biz_opaque_callback_data": "d:01JF60",
        "errors": [
            {
                "code": 131049,
                "title": "not delivered",
                "message": "not delivered",
                "error_data": {"details": "per-user marketing limit"},
                "href": "/documentation/business-messaging/whatsapp/support/error-codes",
            }
        ],
    }
    assert parse(callback(messages(statuses=[status])), AT)[0] == [
        Report(
            "wamid.OUT3",
            "d:01JF60",
            Delivery.FAILED,
            at(1795600100),
            code="131049",
            meaning=Meaning.DEFER,
            error_class="marketing_limit",
            person=Person("+919800000002"),
        )
    ]


def test_a_text_a_template_s_button_and_an_interactive_button():
    common = {"from": "919800000001", "from_user_id": "IN.1000000000000000001"}
    inbound = [
        {**common, "id": "wamid.IN1", "timestamp": "1795600200", "type": "text", "text": {"body": "रोकें"}},
        {
            **common,
            "id": "wamid.IN2",
            "timestamp": "1795600210",
            "type": "button",
            "context": {"from": "911140000000", "id": "wamid.OUT1"},
            "button": {"payload": "rsvp:yes:ev42", "text": "हाँ"},
        },
        {
            **common,
            "id": "wamid.IN3",
            "timestamp": "1795600220",
            "type": "interactive",
            "context": {"from": "911140000000", "id": "wamid.OUT2"},
            "interactive": {"type": "button_reply", "button_reply": {"id": "stop", "title": "Stop"}},
        },
    ]
    to = "+911140000000"
    assert parse(callback(messages(contacts=CONTACTS, messages=inbound)), AT) == (
        [
            Inbound("wamid.IN1", ASHA, at(1795600200), to, "रोकें"),
            Inbound("wamid.IN2", ASHA, at(1795600210), to, "हाँ", "rsvp:yes:ev42", "wamid.OUT1"),
            Inbound("wamid.IN3", ASHA, at(1795600220), to, "Stop", "stop", "wamid.OUT2"),
        ],
        0,
    )


def test_a_changed_identity():
    system = {
        "body": "User changed",
        "type": "user_changed_user_id",
        "previous_user_id": "IN.1000000000000000001",
        "user_id": "IN.1000000000000000077",
    }
    message = {"id": "wamid.SYS1", "timestamp": "1795600300", "type": "system", "system": system}
    assert parse(callback(messages(messages=[message])), AT)[0] == [
        IdentityChanged(
            "wamid.SYS1",
            Person(None, "IN.1000000000000000077"),
            "IN.1000000000000000001",
            at(1795600300),
        )
    ]


def test_a_stopped_preference():
    value = {
        "metadata": METADATA,
        "contacts": [{"profile": {"name": "Asha"}, "user_id": "IN.1000000000000000001"}],
        "user_preferences": [
            {
                "user_id": "IN.1000000000000000001",
                "detail": "User requested to stop marketing messages",
                "category": "marketing_messages",
                "value": "stop",
                "timestamp": 1795600400,
            }
        ],
    }
    assert parse(callback({"field": "user_preferences", "value": value}), AT)[0] == [
        PreferenceChanged(Person(None, "IN.1000000000000000001"), "marketing_messages", True, at(1795600400))
    ]


def test_what_concerns_the_account_and_its_templates():
    template = {
        "message_template_id": 700001,
        "message_template_name": "meeting_reminder",
        "message_template_language": "en-US",
    }
    restriction = {
        "restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING",
        "expiration": 1795600500 + 7 * 86400,
    }
    changes = [
        {
            "field": "account_update",
            "value": {"event": "ACCOUNT_RESTRICTION", "restriction_info": [restriction]},
        },
        {
            "field": "message_template_status_update",
            "value": {
                **template,
                "event": "PAUSED",
                "reason": "NONE",
                "message_template_category": "UTILITY",
                "other_info": {"title": "FIRST_PAUSE", "description": "paused"},
            },
        },
        {
            "field": "message_template_status_update",
            "value": {**template, "event": "APPROVED", "reason": None},
        },
        {
            "field": "message_template_quality_update",
            "value": {**template, "previous_quality_score": "GREEN", "new_quality_score": "YELLOW"},
        },
        {
            "field": "phone_number_quality_update",
            "value": {
                "display_phone_number": "911140000000",
                "event": "THROUGHPUT_UPGRADE",
                "max_daily_conversations_per_business": "TIER_UNLIMITED",
            },
        },
        {
            "field": "business_capability_update",
            "value": {"max_daily_conversations_per_business": 2000},
        },
    ]
    time = at(1795600500)
    assert parse(callback(*changes, time=1795600500), AT) == (
        [
            Notice(
                "900000000000001",
                "restricted_biz_initiated_messaging",
                time,
                Meaning.CHANNEL,
                until=time + timedelta(days=7),
            ),
            Notice("meeting_reminder", "paused", time, Meaning.TEMPLATE, "en_us"),
            Notice("meeting_reminder", "approved", time, None, "en_us"),
            LimitTold(None, time),
            LimitTold(2000, time),
        ],
        0,
    )


@pytest.mark.parametrize("told", ["TIER_7", "", -1, 10**12, True, 2.5, [], {}])
def test_a_limit_that_is_none_is_skipped(told):
    value = {"max_daily_conversations_per_business": told}
    assert parse(callback({"field": "business_capability_update", "value": value}), AT) == ([], 1)


def test_all_of_a_batch_on_three_levels_is_read_and_what_is_unknown_is_counted():
    def status(i: int, **changed: Any) -> dict[str, Any]:
        return {"id": f"wamid.{i}", "status": "sent", "timestamp": "1795600000", **changed}

    odd = [
        status(90, status="vanished"),
        status(91, id=None),
        status(92, id="x" * 300),
        {"status": ["sent"]},
        "sent",
    ]
    changes = [messages(statuses=[status(3 * i), status(3 * i + 1), status(3 * i + 2)]) for i in range(3)]
    entry = {"id": "1", "changes": [*changes, messages(statuses=odd), {"field": "brand_new", "value": 1}]}
    body = orjson.dumps({"object": "whatsapp_business_account", "entry": [entry] * 2, "new_field": {}})
    updates, skipped = parse(body, AT)
    assert [u.provider_id for u in updates if isinstance(u, Report)] == [f"wamid.{i}" for i in range(9)] * 2
    assert skipped == 2 * 5  # four bad statuses and a field; what is no object is not even counted


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b'{"object":"page"}', b"\xff\xfe", b" " * (MAX_BODY + 1)]
)
def test_what_is_no_callback_is_refused(body):
    with pytest.raises(ValueError):
        parse(body, AT)


def test_no_damage_of_a_callback_raises_or_makes_an_unbounded_field():
    """Every value of a real callback is replaced in turn by values of other types and sizes."""
    status = {"id": "w", "status": "failed", "timestamp": "1795600000", "errors": [{"code": 131049}]}
    inbound = {"id": "i", "from": "919800000001", "timestamp": "1", "type": "text", "text": {"body": "hi"}}
    whole = orjson.loads(
        callback(
            messages(contacts=CONTACTS, statuses=[status], messages=[inbound]),
            {"field": "account_update", "value": {"event": "DISABLED_UPDATE", "ban_info": {}}},
        )
    )
    worst: list[Any] = [
        None,
        True,
        -1,
        10**17,
        1.5,
        "",
        "x" * 5000,
        [],
        [[]],
        {},
        {"a": {}},
        "\u0000",
        "९" * 12,
    ]
    for path in list(_paths(whole)):
        for value in worst:
            damaged = orjson.loads(orjson.dumps(whole))
            _put(damaged, path, value)
            try:
                updates, _ = parse(orjson.dumps(damaged), AT)
            except ValueError:
                assert path == ("object",)
                continue
            assert all(len(text) <= 4096 for text in _texts(updates))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*path, key)
        yield from _paths(child, (*path, key))


def _put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def _texts(updates: list[Any]) -> Any:
    for update in updates:
        for name in update.__slots__:
            if isinstance(found := getattr(update, name), str):
                yield found


def message(**changed: Any) -> Message:
    given = {
        "id": "n",
        "member_id": "m",
        "channel": "whatsapp",
        "language": "hi",
        "unit": "BR",
        "address": "+919800000001",
        "text": "नमस्ते",
        "reference": "n.1",
    }
    return Message(**given | changed)


def test_a_template_goes_as_the_platform_wants_it():
    variables = (("name", "आशा"), ("when", "30 नवम्बर, 18:00"))
    request = request_of(message(approved=Approved("meeting_reminder", "hi", "utility", variables)))
    assert request == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+919800000001",
        "type": "template",
        "biz_opaque_callback_data": "n.1",
        "template": {
            "name": "meeting_reminder",
            "language": {"code": "hi"},
            "components": [
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "parameter_name": "name", "text": "आशा"},
                        {"type": "text", "parameter_name": "when", "text": "30 नवम्बर, 18:00"},
                    ],
                }
            ],
        },
    }


def test_numbered_places_have_no_names_and_a_person_without_a_number_is_reached_by_id():
    request = request_of(
        message(address="IN.1000000000000000001", approved=Approved("t", "hi", "utility", (("1", "x"),)))
    )
    assert request["recipient"] == "IN.1000000000000000001"
    assert "to" not in request
    assert request["template"]["components"][0]["parameters"] == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize(
    ("answer", "kind", "meaning"),
    [
        (Answer(200, {"messages": [{"id": "wamid.1", "message_status": "accepted"}]}), "sent", None),
        (Answer(200, {"messages": []}), "unknown", None),
        (Answer(200, {"messages": [{"id": ["x"]}]}), "unknown", None),
        (Answer(200, None), "unknown", None),
        (Answer(302, None), "unknown", None),
        (Answer(400, {"error": {"code": 131026}}), "permanent", Meaning.RECIPIENT),
        (Answer(400, {"error": {"code": "131026"}}), "unknown", None),
        (Answer(500, {"error": {"code": 131000}}), "transient", Meaning.RETRY),
        (Answer(502, None), "unknown", None),
        (Answer(401, None), "transient", Meaning.CHANNEL),
        (Answer(429, None, 30.0), "transient", Meaning.RETRY),
    ],
)
def test_only_an_answer_in_the_platform_s_form_is_believed(answer, kind, meaning):
    found = outcome(answer)
    assert (found.kind, found.meaning) == (OutcomeClass(kind), meaning)
    assert found.retry_after == answer.retry_after


def test_garbage_of_any_kind_is_refused_and_never_worse():
    chance = random.Random(16)
    for _ in range(300):
        body = bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
        with pytest.raises(ValueError):
            parse(body, AT)
