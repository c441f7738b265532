"""Sending by the WhatsApp simulator: what it takes, what it refuses, and with which documented error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from infra.simulators.whatsapp import ERRORS, Template, WhatsAppSimulator
from tests.unit.simulators.conftest import Receiver

ASHA = "+919800000001"
REMINDER = Template("reminder", "hi", "{{1}} को {{2}} बजे")
NEWS = Template("news", "hi", "{{1}}", category="MARKETING")
CODE = Template("code", "hi", "{{1}}", category="AUTHENTICATION")

# Codes of the facts' table; groups' are 131020, 131041 and 131201 to 131215.
CODES = [
    *(0, 190, 3, 10, 131005, 200, 299, 4, 80007, 130429, 131056, 131048, 131064, 368, 131031, 130497, 1, 2),
    *(131000, 131016, 131057, 133004, 100, 131008, 131009, 131051, 131021, 131026, 131030, 131042, 131044),
    *(131045, 133010, 131037, 131063, 131047, 131049, 131050, 131052, 131053, 131062, 130472, 132000, 132001),
    *(132005, 132007, 132008, 132012, 132015, 132016, 132068, 132069, 133000, 133005, 133006, 133008, 133009),
    *(133015, 133016, 135000, 137000, 131020, 131041, *range(131201, 131216)),
]


class Sender:
    def __init__(self, gateway: WhatsAppSimulator, client: httpx2.AsyncClient) -> None:
        self.gateway, self._client = gateway, client

    async def post(self, body: Any, **how: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.gateway.token}"}
        return await self._client.post(how.get("url", self.gateway.messages_url), json=body, headers=headers)

    async def template(
        self, to: str | None = ASHA, *, name: str = "reminder", **body: Any
    ) -> httpx2.Response:
        texts = body.pop("texts", ["आज", "छह"] if name == "reminder" else ["क"])
        parameters = [{"type": "text", "text": text} for text in texts]
        components = body.pop("components", [{"type": "body", "parameters": parameters}])
        template = {"name": name, "language": {"code": "hi"}, "components": components}
        whole = {"messaging_product": "whatsapp", "type": "template", "template": template}
        address = {"recipient": to} if to and to.startswith("IN.") else {"to": to}
        return await self.post(whole | address | body)

    async def text(self, to: str = ASHA, text: str = "नमस्ते", **body: Any) -> httpx2.Response:
        return await self.post(
            {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": text}} | body
        )


@pytest.fixture
async def sender(receiver: Receiver, client: httpx2.AsyncClient) -> AsyncIterator[Sender]:
    async with WhatsAppSimulator(webhooks_to=receiver.url, templates=[REMINDER, NEWS, CODE]) as gateway:
        gateway.preset = gateway.preset.__class__(name="quick", pace=0.001)
        yield Sender(gateway, client)


def code_of(answer: httpx2.Response) -> int:
    return int(answer.json()["error"]["code"])


async def test_each_error_comes_in_the_answer_and_by_webhook(sender: Sender, receiver: Receiver) -> None:
    gateway = sender.gateway
    for n, code in enumerate(CODES):
        to = f"+919800{n:06d}"
        gateway.steer(recipient=to, error=code, via="both", pace=0)
        answer = await sender.template(to, biz_opaque_callback_data=str(code))
        error = answer.json()["error"]
        assert answer.status_code >= 400
        assert (error["code"], error["type"]) == (code, "OAuthException")
        assert error["message"].startswith(f"(#{code}) ")
        assert error["fbtrace_id"]
        assert (code in (0, 3, 4, 10, 190, 200, 368)) or error["error_data"]["details"]
    await gateway.settled()
    assert len(gateway.ledger) == 0
    assert {s["biz_opaque_callback_data"]: [e["code"] for e in s["errors"]] for s in receiver.statuses} == {
        str(code): [code] for code in CODES
    }
    assert {status["status"] for status in receiver.statuses} == {"failed"}
    assert not any("contacts" in change["value"] for change in receiver.changes)


def test_the_table_has_every_code_of_the_facts() -> None:
    assert set(CODES) - {299} == set(ERRORS)


async def test_an_error_that_comes_by_status_only_is_a_taken_message(
    sender: Sender, receiver: Receiver
) -> None:
    sender.gateway.steer(recipient=ASHA, error=131026)
    assert (await sender.template()).status_code == 200
    await sender.gateway.settled()
    assert [each["status"] for each in receiver.statuses] == ["failed"]
    assert len(sender.gateway.ledger) == 1


@pytest.mark.parametrize(
    ("header", "code", "status"),
    [(None, 0, 401), ("Bearer wrong", 190, 401), ("Basic x", 190, 401)],
)
async def test_a_caller_without_the_token(
    sender: Sender, client: httpx2.AsyncClient, header: str | None, code: int, status: int
) -> None:
    headers = {"authorization": header} if header else {}
    answer = await client.post(sender.gateway.messages_url, json={}, headers=headers)
    assert (answer.status_code, code_of(answer)) == (status, code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"messaging_product": "sms"}, 100),
        ({"to": None}, 131008),
        ({"to": "+12"}, 131009),
        ({"to": "+911140000000"}, 131021),
        ({"to": None, "recipient": "asha"}, 131009),
        ({"recipient_type": "group"}, 131215),
        ({"type": "poll"}, 131051),
        ({"template": {"name": "unknown", "language": {"code": "hi"}}}, 132001),
        ({"template": {"name": "reminder", "language": {"code": "en"}}}, 132001),
        ({"template": {"name": "reminder", "language": {"code": "hi"}}}, 132000),
        ({"texts": ["एक"]}, 132000),
        ({"texts": ["एक", "दो\nतीन"]}, 132012),
        ({"texts": ["एक", "क" * 1100]}, 132005),
        ({"components": [{"type": "footer"}]}, 132012),
        (
            {"components": [{"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]}]},
            132000,
        ),
        ({"biz_opaque_callback_data": "x" * 513}, 100),
    ],
)
async def test_a_request_that_does_not_fit(sender: Sender, body: dict[str, Any], code: int) -> None:
    answer = await sender.template(**body)
    assert code_of(answer) == code
    assert sender.gateway.ledger.refused == {str(code): 1}
    assert len(sender.gateway.ledger) == 0


async def test_bodies_that_are_no_requests(sender: Sender, client: httpx2.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {sender.gateway.token}"}
    for content in (b"", b"{", b"[]", b"null"):
        answer = await client.post(sender.gateway.messages_url, content=content, headers=headers)
        assert (answer.status_code, code_of(answer)) == (400, 100)
    other = sender.gateway.messages_url.replace("900000000000002", "1")
    assert code_of(await sender.post({}, url=other)) == 100


async def test_named_parameters_must_be_the_template_s(sender: Sender) -> None:
    sender.gateway.templates.add(Template("named", "hi", "{{name}} {{when}}"))
    good = [{"type": "text", "parameter_name": name, "text": name} for name in ("when", "name")]
    answer = await sender.template(name="named", components=[{"type": "body", "parameters": good}])
    assert answer.status_code == 200
    assert next(iter(sender.gateway.ledger)).text == "name when"
    for bad, code in (
        ([good[0], good[0] | {"parameter_name": "who"}], 132008),
        ([good[0], {"type": "text", "text": "x"}], 132012),
        ([good[0], good[1] | {"type": "currency"}], 132012),
    ):
        answer = await sender.template(name="named", components=[{"type": "body", "parameters": bad}])
        assert code_of(answer) == code


@pytest.mark.parametrize(("event", "code"), [("PAUSED", 132015), ("DISABLED", 132016), ("REJECTED", 132001)])
async def test_a_template_that_lost_its_approval(
    sender: Sender, receiver: Receiver, event: str, code: int
) -> None:
    sender.gateway.template_status("reminder", "hi", event)
    assert code_of(await sender.template()) == code
    await sender.gateway.settled()
    (change,) = receiver.changes
    assert (change["field"], change["value"]["event"]) == ("message_template_status_update", event)
    sender.gateway.template_status("reminder", "hi", "REINSTATED", reason=None)
    assert (await sender.template()).status_code == 200


async def test_text_needs_a_message_of_the_user_within_24_hours(sender: Sender, receiver: Receiver) -> None:
    gateway = sender.gateway
    assert (await sender.text()).status_code == 200
    await gateway.settled()
    assert receiver.statuses[-1]["errors"][0]["code"] == 131047
    gateway.inbound_text(ASHA, "kya hua")
    assert (await sender.text()).status_code == 200
    await gateway.settled()
    assert [each["status"] for each in receiver.statuses[1:]] == ["sent", "delivered"]
    assert receiver.statuses[1]["pricing"]["type"] == "free_customer_service"
    gateway.clock.advance(24 * 3600)
    await sender.text()
    await gateway.settled()
    assert receiver.statuses[-1]["errors"][0]["code"] == 131047


async def test_what_free_text_may_be(sender: Sender) -> None:
    sender.gateway.opens_window(ASHA)
    assert code_of(await sender.text(text="क" * 4097)) == 100
    assert (await sender.text(text="क" * 4096)).status_code == 200
    buttons = [{"type": "reply", "reply": {"id": str(n), "title": "हाँ"}} for n in range(4)]
    for count, title, code in ((4, "हाँ", 131009), (1, "क" * 21, 131009), (1, "", 131009), (3, "हाँ", None)):
        some = [{"type": "reply", "reply": {"id": "1", "title": title}} for _ in buttons[:count]]
        interactive = {"type": "button", "body": {"text": "?"}, "action": {"buttons": some}}
        answer = await sender.text(type="interactive", interactive=interactive)
        assert (answer.status_code == 200) if code is None else (code_of(answer) == code)
    action = {"name": "request_contact_info"}
    contact = {"type": "contact_request", "body": {"text": "?"}, "action": action}
    assert (await sender.text(type="interactive", interactive=contact)).status_code == 200


async def test_a_number_without_plus_gets_the_country_code_of_the_sender(sender: Sender) -> None:
    answer = await sender.template("919800000001")
    assert answer.json()["contacts"] == [{"input": "919800000001", "wa_id": "91919800000001"}]
    assert sender.gateway.ledger.of(ASHA) == []


async def test_sending_to_a_business_scoped_id(sender: Sender, receiver: Receiver) -> None:
    gateway = sender.gateway
    person = gateway.person(ASHA, username="@asha.k", withheld=True)
    answer = await sender.template(person.user_id)
    assert answer.json()["contacts"] == [{"input": person.user_id, "user_id": person.user_id}]
    await gateway.settled()
    for status in receiver.statuses:
        assert "recipient_id" not in status
        assert status["recipient_user_id"] == person.user_id
    assert all("wa_id" not in contact for c in receiver.changes for contact in c["value"]["contacts"])
    assert len(gateway.ledger.of(ASHA)) == 1  # the gateway knows whose it is

    assert code_of(await sender.template(person.user_id, name="code")) == 131062
    both = await sender.template(to="+919800000002", recipient=person.user_id)
    assert both.json()["contacts"][0]["wa_id"] == "919800000002"  # `to` wins


async def test_a_failure_to_a_business_scoped_id_names_it_and_no_phone(
    sender: Sender, receiver: Receiver
) -> None:
    person = sender.gateway.person(ASHA)
    sender.gateway.steer(recipient=ASHA, outcome=131026)
    await sender.template(person.user_id)
    await sender.gateway.settled()
    (status,) = receiver.statuses
    assert status["recipient_user_id"] == person.user_id
    assert "recipient_id" not in status
    assert "contacts" not in receiver.changes[0]["value"]


async def test_a_former_id_is_nobody_s(sender: Sender, receiver: Receiver) -> None:
    gateway = sender.gateway
    former = gateway.change_number(ASHA, "+919800000009")
    await gateway.settled()
    (system,) = receiver.messages
    assert system["system"]["type"] == "user_changed_number"
    assert system["system"]["previous_user_id"] == former
    assert system["system"]["wa_id"] == "919800000009"
    for gone in (former, ASHA):
        await sender.template(gone)
    await gateway.settled()
    assert [each["errors"][0]["code"] for each in receiver.statuses] == [131026, 131026]
    assert (await sender.template(system["system"]["user_id"])).status_code == 200


async def test_a_stop_of_marketing_lets_other_templates_pass(sender: Sender, receiver: Receiver) -> None:
    gateway = sender.gateway
    gateway.prefer(ASHA, "stop")
    await sender.template(name="news")
    await sender.template(name="reminder")
    await gateway.settled()
    assert [s["errors"][0]["code"] for s in receiver.statuses if s["status"] == "failed"] == [131050]
    gateway.prefer(ASHA, "resume")
    await sender.template(name="news")
    await gateway.settled()
    assert receiver.statuses[-1]["status"] == "delivered"
    gateway.switch_marketing(off=True)
    assert code_of(await sender.template(name="news")) == 131063
    gateway.switch_marketing(off=False)
    await sender.template("+12025550123", name="news")
    await gateway.settled()
    assert receiver.statuses[-1]["errors"][0]["code"] == 131049


async def test_pair_rate_throughput_and_unique_recipients(sender: Sender) -> None:
    gateway = sender.gateway
    gateway.clock.now = lambda: 1_800_000_000.0 + gateway.clock.offset  # type: ignore[method-assign]
    gateway.set_limits(throughput=None)
    codes = [(await sender.template()).status_code for _ in range(46)]
    assert codes == [200] * 45 + [400]
    assert gateway.ledger.refused == {"131056": 1}
    gateway.clock.advance(6)
    assert (await sender.template()).status_code == 200
    assert (await sender.template()).status_code == 400

    gateway.set_limits(throughput=5)
    results = [await sender.template(f"+91980000{n:04d}") for n in range(6)]
    assert [answer.status_code for answer in results] == [200] * 5 + [400]
    assert code_of(results[5]) == 130429

    gateway.set_limits(messaging_limit=2)
    for n, status in ((1, 200), (2, 200), (1, 200), (3, 400)):
        assert (await sender.template(f"+91981000{n:04d}")).status_code == status
    gateway.opens_window("+919810000003")  # a reply's window does not count
    assert (await sender.template("+919810000003")).status_code == 200
    gateway.clock.advance(24 * 3600)
    assert (await sender.template("+919810000004")).status_code == 200


async def test_reading_the_number_the_templates_and_the_contact_book(
    sender: Sender, client: httpx2.AsyncClient, receiver: Receiver
) -> None:
    gateway = sender.gateway
    headers = {"authorization": f"Bearer {gateway.token}"}
    number = f"{gateway.url}/v26.0/{gateway.number.phone_number_id}"
    field = "whatsapp_business_manager_messaging_limit"
    for limit, word in ((250, "TIER_250"), (2_000, "TIER_2K"), (None, "TIER_UNLIMITED")):
        gateway.set_limits(messaging_limit=limit)
        answer = await client.get(number, params={"fields": field}, headers=headers)
        assert answer.json() == {field: word, "id": gateway.number.phone_number_id}
    answer = await client.get(
        f"{gateway.url}/v26.0/{gateway.number.waba_id}/message_templates", headers=headers
    )
    assert [(row["name"], row["status"]) for row in answer.json()["data"]] == [
        ("reminder", "APPROVED"),
        ("news", "APPROVED"),
        ("code", "APPROVED"),
    ]
    person = gateway.person(ASHA)
    params = {"bsuid": person.user_id}
    answer = await client.delete(f"{number}/contact_book", params=params, headers=headers)
    assert answer.json() == {"success": True}
    gateway.inbound_text(person, "कौन?")
    await gateway.settled()
    assert "from" not in receiver.messages[0]


async def test_a_held_message_has_no_status_until_it_is_released(sender: Sender, receiver: Receiver) -> None:
    gateway = sender.gateway
    gateway.steer(template="reminder", message_status="held_for_quality_assessment", outcome="silent")
    answer = await sender.template()
    (message,) = answer.json()["messages"]
    assert message["message_status"] == "held_for_quality_assessment"
    await gateway.settled()
    assert receiver.got == []
    gateway.release(message["id"], "read")
    await gateway.settled()
    assert [each["status"] for each in receiver.statuses] == ["sent", "delivered", "read"]


async def test_service_messages_cost_after_a_thousand(sender: Sender, receiver: Receiver) -> None:
    gateway = sender.gateway
    gateway.opens_window(ASHA)
    gateway._service_messages = 999
    for _ in range(2):
        gateway.steer(recipient=ASHA, next=1, outcome="sent", pace=0)
        await sender.text()
        await gateway.settled()
    assert [each["pricing"]["type"] for each in receiver.statuses] == ["free_customer_service", "regular"]
