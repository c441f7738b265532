"""Exotel's simulator: sending, polling, callbacks, DLT, throttling, missed calls, inbound SMS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from infra.simulators import DltTemplate, ExotelSimulator, SteeringError
from infra.simulators.exotel.contract import (
    CODES_OF_REFERENCE,
    CODES_OF_SUPPORT,
    OUTCOMES,
    REFUSALS,
    status_of,
)
from infra.simulators.exotel.text import units
from infra.simulators.presets import Preset
from tests.unit.simulators.conftest import Receiver

ASHA, RITA = "+919876543210", "+919876543211"
WELCOME = DltTemplate("1107000000000000001", "नमस्ते {#var#}, आपका स्वागत है। {#var#}", "SNGTHN")
TEXT = "नमस्ते आशा, आपका स्वागत है। sngthn.in/x"


class Exotel:
    def __init__(self, gateway: ExotelSimulator, client: httpx2.AsyncClient) -> None:
        self.gateway, self._client = gateway, client
        self.auth = httpx2.BasicAuth(gateway.key, gateway.token)

    async def send(self, to: str = ASHA, **fields: str | None) -> httpx2.Response:
        form = message(to, **fields)
        return await self._client.post(self.gateway.send_url, data=form, auth=self.auth)

    async def post(self, url: str, **how: Any) -> httpx2.Response:
        return await self._client.post(url, **{"auth": self.auth} | how)

    async def poll(self, sid: str) -> httpx2.Response:
        return await self._client.get(self.gateway.message_url(sid), auth=self.auth)


def message(to: str = ASHA, **fields: str | None) -> dict[str, str]:
    form: dict[str, str | None] = {
        "From": "SNGTHN",
        "To": to,
        "Body": TEXT,
        "DltEntityId": "1101000000000000001",
        "DltTemplateId": WELCOME.id,
        "EncodingType": "unicode",
        "CustomField": "d:1",
    }
    return {name: value for name, value in (form | fields).items() if value is not None}


@pytest.fixture
async def exotel(receiver: Receiver, client: httpx2.AsyncClient) -> AsyncIterator[Exotel]:
    async with ExotelSimulator(
        callbacks_to=f"{receiver.url}/status",
        missed_calls_to=f"{receiver.url}/missed",
        inbound_to=f"{receiver.url}/inbound",
        templates=[WELCOME],
        preset=Preset(name="quick", pace=0.001),
    ) as gateway:
        yield Exotel(gateway, client)


def code_of(answer: httpx2.Response) -> str:
    exception = answer.json()["RestException"]
    assert exception["Status"] == answer.status_code
    assert exception["Message"]
    return str(exception["Code"])


async def test_a_message_is_answered_called_back_and_polled_as_documented(
    exotel: Exotel, receiver: Receiver
) -> None:
    answer = await exotel.send(StatusCallback=f"{receiver.url}/token-123", Priority="high")
    assert answer.status_code == 200
    sent = answer.json()["SMSMessage"]
    assert (sent["Status"], sent["SmsUnits"], sent["To"], sent["From"]) == ("queued", 1, ASHA, "SNGTHN")
    assert {"Sid", "AccountSid", "DateCreated", "DetailedStatusCode", "DetailedStatus", "Uri"} <= sent.keys()
    await exotel.gateway.settled()
    (callback,) = receiver.got
    assert (callback.method, callback.path) == ("POST", "/hooks/token-123")
    assert callback.headers["content-type"] == "application/x-www-form-urlencoded"
    assert list(callback.form) == (
        [
            "SmsSid",
            "To",
            "Status",
            "DetailedStatus",
            "DetailedStatusCode",
            "SmsUnits",
            "DateSent",
            "CustomField",
        ]
    )
    assert callback.form | {"DateSent": "", "DetailedStatusCode": ""} == {
        "SmsSid": sent["Sid"],
        "To": ASHA,
        "Status": "delivered",
        "DetailedStatus": "DELIVERED_TO_HANDSET",
        "DetailedStatusCode": "",
        "SmsUnits": "1",
        "DateSent": "",
        "CustomField": "d:1",
    }
    polled = (await exotel.poll(sent["Sid"])).json()["SMSMessage"]
    assert (polled["Status"], polled["DetailedStatus"]) == ("delivered", "DELIVERED_TO_HANDSET")
    assert code_of(await exotel.poll("0" * 32)) == "NOT_FOUND"
    (taken,) = exotel.gateway.ledger.by_reference("d:1")
    assert (taken.recipient, taken.template, taken.text) == (ASHA, WELCOME.id, TEXT)


async def test_the_two_pages_numbers_for_one_status_take_turns(exotel: Exotel, receiver: Receiver) -> None:
    for _ in range(2):
        await exotel.send()
    await exotel.gateway.settled()
    assert {got.form["DetailedStatus"] for got in receiver.got} == {"DELIVERED_TO_HANDSET"}
    assert {got.form["DetailedStatusCode"] for got in receiver.got} == {"20000", "20005"}
    assert (CODES_OF_SUPPORT["DELIVERED_TO_HANDSET"], CODES_OF_REFERENCE["DELIVERED_TO_HANDSET"]) == (
        20000,
        20005,
    )


async def test_every_detailed_status_can_come(exotel: Exotel, receiver: Receiver) -> None:
    exotel.gateway.set_limits(per_minute=None)
    for outcome in sorted(OUTCOMES):
        exotel.gateway.steer(next=1, outcome=outcome, pace=0)
        await exotel.send(CustomField=outcome)
    await exotel.gateway.settled()
    got = {each.form["CustomField"]: each.form for each in receiver.got}
    assert {outcome: form["DetailedStatus"] for outcome, form in got.items()} == {o: o for o in OUTCOMES}
    assert {form["Status"] for form in got.values()} == {
        "sent",
        "delivered",
        "failed",
        "expired",
        "undelivered",
    }
    assert got["DELIVERED_TO_OPERATOR"]["Status"] == "sent"
    assert status_of("FAILED_DND") == "failed"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"From": None}, "MISSING_PARAMETER"),
        ({"DltEntityId": None}, "MISSING_PARAMETER"),
        ({"Body": ""}, "EMPTY_BODY"),
        ({"Body": "क" * 2001}, "MESSAGE_TOO_LONG"),
        ({"to": "12"}, "INVALID_PARAMETER"),
        ({"SmsType": "spam"}, "INVALID_PARAMETER"),
        ({"EncodingType": "plain"}, "ENCODING_MISMATCH"),
        ({"From": "ANYONE"}, "INVALID_SENDER"),
        ({"DltEntityId": "1"}, "INVALID_DLT_ENTITY"),
        ({"DltTemplateId": "1"}, "INVALID_DLT_TEMPLATE"),
    ],
)
async def test_a_request_that_does_not_fit(exotel: Exotel, fields: dict[str, Any], code: str) -> None:
    assert code_of(await exotel.send(**fields)) == code
    assert len(exotel.gateway.ledger) == 0


async def test_each_refusal_can_be_steered(exotel: Exotel) -> None:
    exotel.gateway.set_limits(per_minute=None)
    for code, refusal in REFUSALS.items():
        exotel.gateway.steer(next=1, error=code)
        answer = await exotel.send()
        assert (answer.status_code, code_of(answer)) == (refusal.status, code)
    exotel.gateway.steer(next=1, error=503)
    assert (await exotel.send()).status_code == 503
    for wrong in ({"error": 418}, {"outcome": "read"}):
        with pytest.raises(SteeringError):
            exotel.gateway.steer(**wrong)


async def test_credentials_and_account(exotel: Exotel) -> None:
    url = exotel.gateway.send_url
    wrong = await exotel.post(url, data=message(), auth=httpx2.BasicAuth("a", "b"))
    assert (wrong.status_code, code_of(wrong)) == (401, "UNAUTHORIZED")
    other = await exotel.post(url.replace("sangathan1", "another"), data=message())
    assert code_of(other) == "INVALID_ACCOUNT_SID"


async def test_what_dlt_blocks_after_it_was_taken(exotel: Exotel, receiver: Receiver) -> None:
    gateway = exotel.gateway
    gateway.dlt.headers.add("OTHERS")
    gateway.dlt.dnd.add(RITA)
    gateway.dlt.without_consent.add("+919876543212")
    gateway.enforce_hours = True
    gateway.clock.now = lambda: 1_795_600_000.0 - 1_795_600_000 % 86_400 + 20 * 3600  # type: ignore[method-assign]
    cases = {  # at 01:30 in India
        "text": (message(Body=f"{TEXT} " + "क" * 30), "FAILED_DLT_TEMPLATE"),
        "header": (message(From="OTHERS"), "FAILED_DLT_SCRUBBING"),
        "suffix": (message(From="SNGTHN-S"), "DELIVERED_TO_HANDSET"),
        "dnd": (message(RITA, SmsType="promotional"), "FAILED_DND"),
        "consent": (message("+919876543212", SmsType="promotional"), "FAILED_DLT_CONSENT"),
        "hours": (message(SmsType="promotional"), "EC_INVALID_PROMO_TIME"),
        "at night": (message(SmsType="transactional"), "DELIVERED_TO_HANDSET"),
    }
    for name, (form, _) in cases.items():
        answer = await exotel.post(gateway.send_url, data=form | {"CustomField": name})
        assert answer.status_code == 200
    gateway.dlt_by = "status"
    await exotel.post(gateway.send_url, data=message(From="ANYONE", CustomField="unknown header"))
    await gateway.settled()
    told = {got.form["CustomField"]: got.form["DetailedStatus"] for got in receiver.got}
    wanted = {name: detailed for name, (_, detailed) in cases.items()}
    assert told == wanted | {"unknown header": "FAILED_INVALID_SENDER"}
    hours = next(got.form for got in receiver.got if got.form["CustomField"] == "hours")
    assert hours["DetailedStatusCode"] == "651"


async def test_bulk_as_form_and_as_json(exotel: Exotel, receiver: Receiver) -> None:
    gateway = exotel.gateway
    rows = [
        message(ASHA, CustomField="d:1"),
        message(RITA, CustomField="d:2"),
        message("12", CustomField="d:3"),
    ]
    form = {f"Messages[{n}][{name}]": value for n, row in enumerate(rows) for name, value in row.items()}
    answer = await exotel.post(gateway.bulk_url, data=form)
    assert answer.status_code == 207
    first, second, third = answer.json()
    assert (first["SMSMessage"]["To"], second["SMSMessage"]["To"]) == (ASHA, RITA)
    assert third["RestException"]["Code"] == "INVALID_PARAMETER"

    outer = {"StatusCallback": f"{receiver.url}/outer", "DltEntityId": rows[0]["DltEntityId"]}
    inner = [{k: v for k, v in row.items() if k != "DltEntityId"} for row in rows[:2]]
    answer = await exotel.post(gateway.bulk_url, json=outer | {"sms": inner})
    assert answer.status_code == 202
    accepted = answer.json()["response"]["sms"]
    assert [(each["To"], each["Status"], each["StatusCode"]) for each in accepted] == [
        (ASHA, "queued", 202),
        (RITA, "queued", 202),
    ]
    assert gateway.ledger.get(accepted[0]["Sid"]).fields["callback"] == outer["StatusCallback"]  # type: ignore[union-attr]

    static = await exotel.post(gateway.send_url, data=message(f"{ASHA},{RITA}"))
    assert [each["SMSMessage"]["To"] for each in static.json()] == [ASHA, RITA]
    assert [len(gateway.ledger.of(number)) for number in (ASHA, RITA)] == [3, 3]

    gateway.bulk_answer = "object"
    answer = await exotel.post(gateway.bulk_url, data={k: v for k, v in form.items() if "[2]" not in k})
    assert [each["To"] for each in answer.json()["SMSMessage"]] == [ASHA, RITA]


@pytest.mark.parametrize("count", [0, 101])
async def test_a_bulk_has_1_to_100_messages(exotel: Exotel, count: int) -> None:
    answer = await exotel.post(exotel.gateway.bulk_url, json={"sms": [message() for _ in range(count)]})
    assert code_of(answer) == ("TOO_MANY_MESSAGES" if count else "MISSING_PARAMETER")
    for content in (b"{", b'{"sms":1}', b"null"):
        headers = {"content-type": "application/json"}
        answer = await exotel.post(exotel.gateway.bulk_url, content=content, headers=headers)
        assert code_of(answer) == "INVALID_PARAMETER"


async def test_a_broken_bulk_was_taken_whole_or_not_at_all(exotel: Exotel) -> None:
    body = {"sms": [message(f"+9198765{n:05d}", CustomField=f"d:{n}") for n in range(10)]}
    for taken, held in ((False, 0), (True, 10)):
        exotel.gateway.steer(next=1, fault="reset", taken=taken)
        with pytest.raises(httpx2.ReadError):
            await exotel.post(exotel.gateway.bulk_url, json=body)
        assert len(exotel.gateway.ledger) == held
    assert exotel.gateway.ledger.lost(f"d:{n}" for n in range(10)) == set()


async def test_throttling_by_the_minute(exotel: Exotel) -> None:
    gateway = exotel.gateway
    gateway.set_limits(per_minute=2, bulk_per_minute=1, get_per_minute=1)
    answers = [await exotel.send() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert code_of(answers[2]) == "RATE_LIMIT_EXCEEDED"
    assert answers[2].headers["retry-after"] == "30"
    assert answers[2].headers["x-ratelimit-remaining"] == "0"
    bulks = [await exotel.post(gateway.bulk_url, json={"sms": [message()]}) for _ in range(2)]
    assert [answer.status_code for answer in bulks] == [202, 429]
    sid = answers[0].json()["SMSMessage"]["Sid"]
    assert [(await exotel.poll(sid)).status_code for _ in range(2)] == [200, 429]
    gateway.clock.advance(60)
    assert (await exotel.send()).status_code == 200


async def test_a_callback_is_tried_three_times_and_a_lost_one_can_be_polled(
    exotel: Exotel, receiver: Receiver
) -> None:
    receiver.answers = [500, 500, 500]
    sid = (await exotel.send()).json()["SMSMessage"]["Sid"]
    await exotel.gateway.settled()
    assert len(receiver.got) == 3
    assert exotel.gateway.callbacks.given_up == 1
    assert (await exotel.poll(sid)).json()["SMSMessage"]["Status"] == "delivered"

    receiver.got.clear()
    exotel.gateway.steer(next=1, callback=False, pace=0)
    sid = (await exotel.send()).json()["SMSMessage"]["Sid"]
    exotel.gateway.steer(next=1, outcome="silent", pace=0)
    silent = (await exotel.send()).json()["SMSMessage"]["Sid"]
    await exotel.gateway.settled()
    assert receiver.got == []
    assert (await exotel.poll(sid)).json()["SMSMessage"]["Status"] == "delivered"
    assert (await exotel.poll(silent)).json()["SMSMessage"]["Status"] == "submitted"
    exotel.gateway.release(silent)
    await exotel.gateway.settled()
    assert receiver.got[0].form["Status"] == "delivered"


async def test_callbacks_of_every_status(exotel: Exotel, receiver: Receiver) -> None:
    exotel.gateway.tell = "all"
    exotel.gateway.steer(recipient=ASHA, pace=0.03)
    await exotel.send()
    await exotel.gateway.settled()
    assert [got.form["Status"] for got in receiver.got] == ["sending", "submitted", "sent", "delivered"]


async def test_a_missed_call_and_an_inbound_sms(exotel: Exotel, receiver: Receiver) -> None:
    gateway = exotel.gateway
    gateway.missed_call(ASHA)
    gateway.missed_call(ASHA, method="POST", national=True)
    gateway.inbound_sms(ASHA, "STOP")
    gateway.inbound_sms(ASHA, "रोकें", method="GET")
    gateway.steer(recipient=ASHA, reply="STOP", pace=0)
    await exotel.send()
    await gateway.settled()
    calls = {got.method: got for got in receiver.got if got.path.endswith("/missed")}
    got = calls["GET"].query
    assert (got["CallFrom"], got["CallTo"], got["Direction"]) == (ASHA, gateway.number, "incoming")
    assert (got["CallType"], got["DialCallDuration"]) == ("call-attempt", "0")
    assert calls["POST"].form["CallFrom"] == "09876543210"
    inbound = [each for each in receiver.got if each.path.endswith("/inbound")]
    forms = [each.form for each in inbound if each.method == "POST"]
    assert {form["Body"] for form in forms} == {"STOP"}
    assert len(forms) == 2
    assert set(forms[0]) == {"SmsSid", "From", "To", "Body", "DateCreated", "AccountSid"}
    (query,) = [each.query for each in inbound if each.method == "GET"]
    assert set(query) == {"SmsSid", "From", "To", "Date", "Body"}
    assert query["Body"] == "रोकें"


async def test_a_callback_for_an_unknown_message(exotel: Exotel, receiver: Receiver) -> None:
    exotel.gateway.callback("f" * 32, "DELIVERED_TO_HANDSET")
    await exotel.gateway.settled()
    assert receiver.got[0].form["SmsSid"] == "f" * 32


async def test_xml_without_json_in_the_path(exotel: Exotel) -> None:
    answer = await exotel.post(exotel.gateway.send_url.removesuffix(".json"), data=message())
    assert answer.headers["content-type"].startswith("application/xml")
    assert "<TwilioResponse><SMSMessage><Sid>" in answer.text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("{" * 80, 1),
        ("{" * 81, 2),
        ("क" * 70, 1),
        ("क" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("a" * 69 + "₹" * 2, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),
    ],
)
def test_parts_of_a_text(text: str, parts: int) -> None:
    assert units(text) == parts
