"""Every payload example of the documentation is made again, field by field, by the simulator itself."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from infra.simulators.whatsapp import ERRORS, Number, Template, WhatsAppSimulator, payloads
from infra.simulators.whatsapp.payloads import Pricing, Update, entry, envelope, value_of
from infra.simulators.whatsapp.people import Person
from infra.simulators.whatsapp.webhooks import sign
from tests.unit.simulators.conftest import Receiver

NUMBER = Number("900000000000001", "900000000000002", "911140000000")
HEAD = (
    '"messaging_product":"whatsapp",'
    '"metadata":{"display_phone_number":"911140000000","phone_number_id":"900000000000002"},'
)
ASHA_ID = "IN.1000000000000000001"


def asha(**how: Any) -> Person:
    return Person("+919800000001", ASHA_ID, "Asha", **how)


def whole(field: str, value: str) -> Any:
    """The documented example: one entry, one change."""
    return json.loads(
        '{"object":"whatsapp_business_account","entry":[{"id":"900000000000001","changes":[{"field":"'
        + field
        + '","value":{'
        + value
        + "}}]}]}"
    )


def made(*updates: Update) -> dict[str, Any]:
    change = {"field": updates[0].field, "value": value_of(updates, NUMBER)}
    return envelope([entry(NUMBER, [change])])


def test_sent_to_a_phone() -> None:
    wanted = whole(
        "messages",
        HEAD
        + """"contacts":[{"profile":{"name":"Asha"},"wa_id":"919800000001",
                          "user_id":"IN.1000000000000000001"}],
        "statuses":[{"id":"wamid.OUT1","status":"sent","timestamp":"1795600000","recipient_id":"919800000001",
        "recipient_user_id":"IN.1000000000000000001","biz_opaque_callback_data":"d:01JF5Z",
        "pricing":{"billable":true,"pricing_model":"PMP","type":"regular","category":"utility"}}]""",
    )
    sent = payloads.status(
        "wamid.OUT1", "sent", 1795600000, asha(), to_phone=True, opaque="d:01JF5Z", pricing=Pricing()
    )
    assert made(sent) == wanted


def test_delivered_and_read_with_the_phone_withheld() -> None:
    wanted = whole(
        "messages",
        HEAD
        + """"contacts":[{"profile":{"name":"Asha","username":"@asha.k"},"user_id":"IN.1000000000000000001"}],
        "statuses":[{"id":"wamid.OUT2","status":"delivered","timestamp":"1795600009",
                     "recipient_user_id":"IN.1000000000000000001"},
                    {"id":"wamid.OUT2","status":"read","timestamp":"1795600042",
                     "recipient_user_id":"IN.1000000000000000001"}]""",
    )
    person = asha(username="@asha.k", withheld=True)
    delivered = payloads.status("wamid.OUT2", "delivered", 1795600009, person, to_phone=False)
    read = payloads.status("wamid.OUT2", "read", 1795600042, person, to_phone=False)
    assert made(delivered, read) == wanted
    # The username is told by these two only.
    assert "username" not in str(made(payloads.status("wamid.OUT2", "sent", 1, person, to_phone=False)))


def test_failed_without_contacts() -> None:
    wanted = whole(
        "messages",
        HEAD
        + """"statuses":[{"id":"wamid.OUT3","status":"failed","timestamp":"1795600100",
        "recipient_id":"919800000002","biz_opaque_callback_data":"d:01JF60",
        "errors":[{"code":131049,"title":"not delivered","message":"not delivered",
        "error_data":{"details":"per-user marketing limit"},
        "href":"/documentation/business-messaging/whatsapp/support/error-codes"}]}]""",
    )
    person = Person("+919800000002", "IN.2")
    failed = payloads.status(
        "wamid.OUT3",
        "failed",
        1795600100,
        person,
        to_phone=True,
        opaque="d:01JF60",
        errors=[ERRORS[131049].in_status()],
    )
    assert made(failed) == wanted


def test_inbound_text_button_and_interactive_in_one_value() -> None:
    wanted = whole(
        "messages",
        HEAD
        + """"contacts":[{"profile":{"name":"Asha"},"wa_id":"919800000001",
                          "user_id":"IN.1000000000000000001"}],
        "messages":[
        {"from":"919800000001","from_user_id":"IN.1000000000000000001","id":"wamid.IN1",
         "timestamp":"1795600200","type":"text","text":{"body":"रोकें"}},
        {"from":"919800000001","from_user_id":"IN.1000000000000000001","id":"wamid.IN2",
         "timestamp":"1795600210","type":"button","context":{"from":"911140000000","id":"wamid.OUT1"},
         "button":{"payload":"rsvp:yes:ev42","text":"हाँ"}},
        {"from":"919800000001","from_user_id":"IN.1000000000000000001","id":"wamid.IN3",
         "timestamp":"1795600220","type":"interactive","context":{"from":"911140000000","id":"wamid.OUT2"},
         "interactive":{"type":"button_reply","button_reply":{"id":"stop","title":"Stop"}}}]""",
    )
    context = {"from": "911140000000"}
    text = payloads.inbound("wamid.IN1", 1795600200, asha(), "text", {"body": "रोकें"}, None)
    tap = {"payload": "rsvp:yes:ev42", "text": "हाँ"}
    button = payloads.inbound("wamid.IN2", 1795600210, asha(), "button", tap, context | {"id": "wamid.OUT1"})
    reply = {"type": "button_reply", "button_reply": {"id": "stop", "title": "Stop"}}
    interactive = payloads.inbound(
        "wamid.IN3", 1795600220, asha(), "interactive", reply, context | {"id": "wamid.OUT2"}
    )
    assert made(text, button, interactive) == wanted


def test_identity_change_without_contacts() -> None:
    wanted = whole(
        "messages",
        HEAD
        + """"messages":[{"id":"wamid.SYS1","timestamp":"1795600300","type":"system",
        "system":{"body":"User changed","type":"user_changed_user_id",
        "previous_user_id":"IN.1000000000000000001","user_id":"IN.1000000000000000077"}}]""",
    )
    person = Person("+919800000001", "IN.1000000000000000077", withheld=True)
    change = payloads.identity_change(
        "wamid.SYS1", 1795600300, person, "user_changed_user_id", ASHA_ID, "User changed"
    )
    assert made(change) == wanted
    person.withheld = False
    shared = payloads.identity_change("w", 1, person, "user_changed_number", ASHA_ID, "User changed").item
    assert shared["from"] == shared["system"]["wa_id"] == "919800000001"


def test_user_preferences_with_an_integer_timestamp() -> None:
    wanted = whole(
        "user_preferences",
        HEAD
        + """"contacts":[{"profile":{"name":"Asha"},"user_id":"IN.1000000000000000001"}],
        "user_preferences":[{"user_id":"IN.1000000000000000001",
        "detail":"User requested to stop marketing messages","category":"marketing_messages","value":"stop",
        "timestamp":1795600400}]""",
    )
    assert made(payloads.preference(1795600400.7, asha(withheld=True), "stop")) == wanted


async def test_account_level_changes_carry_the_entry_s_time_and_no_metadata(receiver: Receiver) -> None:
    wanted = json.loads("""{"object":"whatsapp_business_account","entry":[{"id":"900000000000001","time":0,
     "changes":[{"field":"account_update","value":{"event":"ACCOUNT_RESTRICTION","restriction_info":
       [{"restriction_type":"RESTRICTED_BIZ_INITIATED_MESSAGING","expiration":1795700000}]}},
     {"field":"message_template_status_update","value":{"event":"PAUSED","message_template_id":700001,
       "message_template_name":"meeting_reminder","message_template_language":"hi","reason":"NONE",
       "message_template_category":"UTILITY","other_info":{"title":"FIRST_PAUSE","description":"paused"}}},
     {"field":"message_template_quality_update","value":{"previous_quality_score":"GREEN",
       "new_quality_score":"YELLOW","message_template_id":700001,"message_template_name":"meeting_reminder",
       "message_template_language":"hi"}},
     {"field":"phone_number_quality_update","value":{"display_phone_number":"911140000000",
       "event":"THROUGHPUT_UPGRADE","max_daily_conversations_per_business":"TIER_UNLIMITED"}},
     {"field":"business_capability_update","value":{"max_daily_conversations_per_business":2000}}]}]}""")
    async with WhatsAppSimulator(
        webhooks_to=receiver.url, templates=[Template("meeting_reminder", "hi")], connections=1
    ) as gateway:
        gateway.account_update(
            "ACCOUNT_RESTRICTION",
            restriction_info=[
                {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1795700000}
            ],
        )
        info = {"title": "FIRST_PAUSE", "description": "paused"}
        gateway.template_status("meeting_reminder", "hi", "PAUSED", other_info=info)
        gateway.template_quality("meeting_reminder", "hi", "GREEN", "YELLOW")
        gateway.number_quality("THROUGHPUT_UPGRADE", "TIER_UNLIMITED")
        gateway.capability(2000)
        await gateway.settled()
        for each in receiver.got:
            (one,) = each.json["entry"]
            assert isinstance(one["time"], int)
        assert receiver.changes == wanted["entry"][0]["changes"]

        # Together they fit into one entry.
        receiver.got.clear()
        gateway.tell(*(Update(change["field"], change["value"]) for change in wanted["entry"][0]["changes"]))
        await gateway.settled()
        (together,) = receiver.got
        assert together.json == wanted | {
            "entry": [wanted["entry"][0] | {"time": together.json["entry"][0]["time"]}]
        }


async def test_group_participants(receiver: Receiver) -> None:
    wanted = whole(
        "group_participants_update",
        HEAD
        + """"groups":[{"timestamp":"1795600600","group_id":"G1","type":"group_participants_add",
        "reason":"invite_link","added_participants":[{"wa_id":"919800000001"}]}]""",
    )
    async with WhatsAppSimulator(webhooks_to=receiver.url) as gateway:
        gateway.clock.now = lambda: 1795600600.0  # type: ignore[method-assign]
        gateway.group_participants("G1", "+919800000001")
        await gateway.settled()
    assert receiver.got[0].json == wanted


@pytest.mark.parametrize("code", [131049, 130429])
async def test_errors_of_a_value_without_messages_and_statuses(receiver: Receiver, code: int) -> None:
    async with WhatsAppSimulator(webhooks_to=receiver.url) as gateway:
        gateway.value_error(code)
        await gateway.settled()
    (value,) = [change["value"] for change in receiver.changes]
    assert value["errors"][0]["code"] == code
    assert "statuses" not in value
    assert "messages" not in value


def test_the_signature_vector() -> None:
    body = b'{"object":"whatsapp_business_account","entry":[]}'
    vector = "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756"
    assert sign("test_app_secret", body) == f"sha256={vector}"
    assert sign("test_app_secret", body.replace(b":", b": ")) != f"sha256={vector}"


async def test_the_documented_send_body_is_answered_as_documented(client: httpx2.AsyncClient) -> None:
    body = json.loads("""{"messaging_product":"whatsapp","recipient_type":"individual","to":"+919800000001",
     "type":"template","biz_opaque_callback_data":"d:01JF5Z",
     "template":{"name":"meeting_reminder","language":{"code":"hi"},"components":[
      {"type":"header","parameters":[{"type":"image","image":{"id":"800001"}}]},
      {"type":"body","parameters":[{"type":"text","parameter_name":"name","text":"आशा"},
        {"type":"text","parameter_name":"when","text":"30 नवम्बर, 18:00"}]},
      {"type":"button","sub_type":"quick_reply","index":"0",
       "parameters":[{"type":"payload","payload":"rsvp:yes:ev42"}]},
      {"type":"button","sub_type":"url","index":"1","parameters":[{"type":"text","text":"e/ev42?t=..."}]}]}}""")
    template = Template(
        "meeting_reminder",
        "hi",
        "नमस्ते {{name}}, बैठक {{when}} बजे",
        header="image",
        buttons=("quick_reply", "url_variable"),
    )
    async with WhatsAppSimulator(templates=[template]) as gateway:
        answer = await client.post(
            gateway.messages_url, json=body, headers={"authorization": f"Bearer {gateway.token}"}
        )
        (taken,) = gateway.ledger
    assert answer.status_code == 200
    assert answer.json() == {
        "messaging_product": "whatsapp",
        "contacts": [{"input": "+919800000001", "wa_id": "919800000001"}],
        "messages": [{"id": taken.id, "message_status": "accepted"}],
    }
    assert (taken.recipient, taken.reference, taken.template) == (
        "+919800000001",
        "d:01JF5Z",
        "meeting_reminder",
    )
    assert taken.text == "नमस्ते आशा, बैठक 30 नवम्बर, 18:00 बजे"
