"""Templates over HTTP, and what follows from them when messages are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest_asyncio

from infra.local.keys import Keys
from services.notifications.core.channel import Gateways, Message
from services.notifications.core.domain import Notification, OutcomeClass, SendOutcome, State
from services.notifications.core.store import notification_of
from services.notifications.core.suppressions.domain import MESSAGES, STOP_WORD, Act, suppression_id
from services.notifications.core.updates import Notice
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork
from tests.fixtures.apps import TRACEPARENT
from tests.integration.notifications.callbacks import FakeGateway, Hooks
from tests.integration.notifications.conftest import Bench, assigned, joined
from tests.integration.notifications.registered import registered
from tests.integration.notifications.stand_ins import Peers
from tests.integration.notifications.test_api import as_caller

WELCOME = "/v1/templates/welcome/hi"
TEXT = "नमस्ते {{ name }}! {{ group }}: {{ link }} STOP"


class Taker(FakeGateway):
    """Takes everything, approved templates only, and keeps it."""

    def __init__(self, name: str) -> None:
        super().__init__(name, approved_only=True)
        self.taken: list[Message] = []

    async def send(self, messages: Any) -> list[SendOutcome]:
        self.taken += messages
        return [SendOutcome(OutcomeClass.SENT, provider_id=m.reference) for m in messages]


class Office:
    """A replica that sends to gateways of approved templates, and an operator's calls of another one's
    API."""

    def __init__(self, bench: Bench, sms: Taker, chat: Taker, http: httpx2.AsyncClient, keys: Keys) -> None:
        self.bench, self.sms, self.chat, self.http, self.keys = bench, sms, chat, http, keys

    async def put(self, path: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
        return await self.http.put(path, json=body, headers=headers)

    async def approve(self, channel: str, version: int, text: str = TEXT, **changed: Any) -> httpx2.Response:
        body: dict[str, Any] = {"version": version, "state": "approved"}
        if channel == "sms":
            body |= {"name": "1107", "category": "service_implicit", "text": registered(text)}
        else:
            body |= {"name": "hello", "category": "utility", "language": "en_US", "variables": ["name"]}
        return await self.put(f"{WELCOME}/approvals/{channel}", body | changed)

    async def welcome(self, peers: Peers, *channels: str, **person: Any) -> str:
        member, group = peers.add_member(**person), peers.add_group()
        peers.consents(member, *channels)
        await self.bench.deliver(joined(member, channels=channels), assigned(member, group, ready=True))
        return member

    async def find(self, id_: str) -> Notification:
        row = await self.bench.database["notifications"].find_one({"_id": id_})
        assert row is not None
        return notification_of(row)


@pytest_asyncio.fixture(loop_scope="session")
async def office(
    bench: Bench, settings: NotificationsSettings, clock: ManualClock, keys: Keys
) -> AsyncIterator[Office]:
    sms, chat = Taker("exotel"), Taker("whatsapp")
    priced = settings.model_dump() | {
        "message_prices": [{"channel": "sms", "since": "2020-01-01", "amount": "0.15"}]
    }
    sending = Gateways({"sms": sms, "whatsapp": chat})
    made, other = [Bench(NotificationsSettings(**priced), clock, sending) for _ in range(2)]
    await other.runtime.server_clock.read()
    transport = httpx2.ASGITransport(app=other.service.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        http.headers |= as_caller(keys, "notifications:read notifications:write")
        yield Office(made, sms, chat, http, keys)
    for each in (made, other):
        each.runtime.client.close()


async def test_a_text_gets_versions_and_the_approved_one_is_used(office: Office, peers: Peers):
    """Shipped, put, put again, approved: each channel uses its newest approved version, others the newest."""
    shipped = await office.http.get(WELCOME)
    assert (shipped.json()["version"], shipped.headers["etag"]) == (0, '"0"')
    assert (await office.put(WELCOME, {"text": TEXT})).status_code == 428
    assert (await office.put(WELCOME, {"text": TEXT}, **{"if-match": '"1"'})).status_code == 412
    assert (await office.put(WELCOME, {"text": TEXT}, **{"if-none-match": "*"})).status_code == 412
    first = await office.put(WELCOME, {"text": TEXT}, **{"if-match": '"0"'})
    assert (first.status_code, first.headers["etag"], first.headers["location"]) == (201, '"1"', WELCOME)
    again = await office.put(WELCOME, {"text": f" {TEXT}\r\n"}, **{"if-match": '"1"'})
    assert (again.status_code, again.json()["version"]) == (200, 1)
    second = await office.put(WELCOME, {"text": TEXT + " two"}, **{"if-match": '"1"'})
    assert second.json()["version"] == 2

    wrong = await office.approve("sms", 2)
    assert (wrong.status_code, [e["pointer"] for e in wrong.json()["errors"]]) == (422, ["/text"])
    assert (await office.approve("sms", 3)).status_code == 404
    assert (await office.approve("sms", 0)).status_code == 409
    assert (await office.approve("sms", 1)).status_code == 200
    assert (await office.http.get(WELCOME)).json()["approved"] == {"sms": 1}
    listed = (await office.http.get("/v1/templates", params={"limit": "500"})).json()["items"]
    assert {"welcome", "code", "stopped"} <= {each["name"] for each in listed}
    versions = (await office.http.get(f"{WELCOME}/versions")).json()["items"]
    assert [(v["version"], [a["state"] for a in v["approvals"]]) for v in versions] == [
        (2, []),
        (1, ["approved"]),
    ]
    member = await office.welcome(peers, "sms")
    await office.bench.dispatch()
    assert (await office.bench.welcome(member)).state is State.SENT
    [message] = office.sms.taken
    assert message.text == registered_with(peers, member, message.text)
    assert message.approved is not None
    assert (message.approved.name, message.approved.category) == ("1107", "service_implicit")


def registered_with(peers: Peers, member: str, text: str) -> str:
    """The first version with this member's values."""
    link = text.split(": ")[1].split(" ", maxsplit=1)[0]
    return f"नमस्ते {peers.people[member].name}! सारण समूह: {link} STOP"


async def test_what_no_template_fits_goes_another_way_or_waits_for_one(office: Office, peers: Peers):
    """Nothing is approved: held. Then for one channel; then a name is too long for its place there; then the
    provider pauses the template and lets it go on."""
    both = await office.welcome(peers, "whatsapp", "sms")
    only = await office.welcome(peers, "whatsapp")
    long = await office.welcome(peers, "sms", name="अ" * 91)
    await office.bench.dispatch()
    held = {(await office.bench.welcome(m)).held_for for m in (both, only, long)}
    assert held == {"template_not_approved"}
    await office.bench.passes(timedelta(minutes=30))
    assert await office.bench.dispatch() == 0, "looked at hourly"

    first = await office.put(WELCOME, {"text": TEXT}, **{"if-match": '"0"'})
    assert first.status_code == 201
    await office.bench.dispatch()
    assert (await office.approve("sms", 1)).status_code == 200
    await office.bench.dispatch()
    sent, waits, inexact = [await office.bench.welcome(m) for m in (both, only, long)]
    assert (sent.state, sent.channel, len(office.sms.taken)) == (State.SENT, "sms", 1)
    assert (waits.state, waits.held_for) == (State.QUEUED, "template_not_approved")
    assert (inexact.state, inexact.held_for) == (State.QUEUED, "template_not_exact")

    assert (await office.approve("whatsapp", 1, state="submitted")).status_code == 200
    await office.bench.dispatch()
    assert (await office.bench.welcome(only)).state is State.QUEUED
    assert (await office.approve("whatsapp", 1)).status_code == 200
    await office.bench.dispatch()
    assert (await office.bench.welcome(only)).state is State.SENT
    [message] = office.chat.taken
    assert message.approved is not None
    assert message.approved.variables == (("name", peers.people[only].name),)


async def test_a_provider_tells_the_state_of_a_template(hooks: Hooks):
    """Its news count in the order in which they happened, and are for its own templates alone."""
    bench = hooks.bench
    http, headers = hooks.http, {"authorization": f"Bearer {hooks.token('notifications:write')}"}
    await bench.runtime.server_clock.read()
    put = {"version": 0, "state": "approved", "name": "hello", "category": "utility", "language": "en_US"}
    answer = await http.put(f"{WELCOME}/approvals/whatsapp", json=put, headers=headers)
    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    now = bench.core.clock.now()
    put_at = {"$set": {"approvals.0.changed_at": now - timedelta(days=1)}}
    await bench.database["templates"].update_one({"_id": "welcome.hi.1"}, put_at)

    async def state(*notices: Notice) -> str:
        await hooks.tell(*notices)
        row = await bench.database["templates"].find_one({"_id": "welcome.hi.1"})
        assert row is not None
        return str(row["approvals"][0]["state"])

    later = [now - timedelta(minutes=10 - n) for n in range(1, 5)]
    assert await state(Notice("hello", "paused", now - timedelta(days=2), language="en_us")) == "approved"
    assert await state(Notice("hello", "paused", later[1], language="en_us")) == "paused"
    assert await state(Notice("hello", "approved", later[0], language="en_us")) == "paused", "older news"
    assert await state(Notice("other", "approved", later[2], language="en_us")) == "paused"
    assert await state(Notice("hello", "flagged", later[2], language="en_us")) == "paused"
    assert await state(Notice("hello", "reinstated", later[3], language="en_us")) == "approved"


async def test_a_preview_shows_each_channel_with_length_cost_and_reasons(office: Office):
    text = "x" * 90 + " ₹5 {{ name }} STOP"
    body = {"language": "en", "text": text, "html": "<p>{{ name }}</p>", "values": {"name": "<Asha>"}}
    answer = await office.http.post("/v1/templates/fresh/preview", json=body)
    assert answer.status_code == 200, answer.text
    shown = {each["channel"]: each for each in answer.json()["channels"]}
    assert shown["sms"]["notes"] == ["'₹' is not in the GSM alphabet: 2 parts instead of 1"]
    assert (shown["sms"]["parts"], shown["sms"]["encoding"], shown["sms"]["cost"]) == (2, "ucs2", "0.30")
    assert "&lt;Asha&gt;" in shown["email"]["html"]
    assert (shown["whatsapp"]["cost"], shown["sms"]["html"]) == (None, None)
    stored = (await office.http.post("/v1/templates/code/preview", json={"language": "mai"})).json()
    sms = next(each for each in stored["channels"] if each["channel"] == "sms")
    assert (sms["language"], sms["version"], sms["reason"]) == ("hi", 0, "template_not_approved")
    assert "482913" in sms["text"]
    missing = await office.http.post("/v1/templates/fresh/preview", json={"language": "en"})
    assert missing.status_code == 404
    stray = await office.http.post(
        "/v1/templates/code/preview", json={"language": "en", "values": {"name": "A"}}
    )
    assert stray.status_code == 422


async def stop_email(bench: Bench, address: str) -> None:
    await bench.runtime.server_clock.read()
    await bench.core.fingerprints.ready()
    id_ = suppression_id("email", bench.core.fingerprints.of("email", address))
    act = Act(id_, "email", True, MESSAGES, STOP_WORD, bench.core.clock.now())

    async def body(work: UnitOfWork) -> None:
        await bench.core.opting_out.act([act], work, Origin("a stop", TRACEPARENT))

    await bench.runtime.outbox.transact(body)


async def test_a_test_goes_by_the_queue_to_whoever_would_get_the_text(bench: Bench, peers: Peers, keys: Keys):
    """By the recording sender. A test needs consent to the channel, which nobody has stopped there, and the
    caller the member's unit."""
    transport = httpx2.ASGITransport(app=bench.service.app, raise_app_exceptions=False)
    willing, unwilling = peers.add_member(), peers.add_member()
    peers.consents(willing, "email")
    peers.consents(unwilling, "email", purpose="reminder")
    stopped = peers.add_member(email="stopped@example.org")
    await bench.deliver(*(joined(each, announced=False) for each in (willing, unwilling, stopped)))
    await stop_email(bench, "stopped@example.org")
    caller = as_caller(keys, "notifications:write", "BR-SARAN")
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:

        async def test(member: str, key: str, **headers: str) -> httpx2.Response:
            body = {"member_id": member, "channel": "email"}
            given = caller | headers | {"idempotency-key": key}
            return await http.post("/v1/templates/welcome/test", json=body, headers=given)

        first, again, other = await test(willing, "1"), await test(willing, "1"), await test(unwilling, "2")
        assert [each.status_code for each in (first, again, other)] == [202] * 3
        assert first.json() == again.json()
        silent = await test(stopped, "5")
        outside = as_caller(keys, "notifications:write", "BR-GAYA")
        assert (await test(willing, "3", **outside)).status_code == 404
        assert (await test(new_id(), "4")).status_code == 404
    await bench.dispatch()
    recorded = await bench.recorded(first.json()["id"])
    assert recorded is not None
    assert recorded["text"].startswith(f"नमस्ते {peers.people[willing].name}")
    rows = {row["_id"]: row async for row in bench.database["notifications"].find({"purpose": "service"})}
    sent, refused = rows[first.json()["id"]], rows[other.json()["id"]]
    assert (len(rows), sent["template"], sent["state"]) == (3, "test_welcome", "sent")
    assert rows[silent.json()["id"]]["reason"] == "suppressed"
    assert (refused["state"], refused["reason"]) == ("suppressed", "no_consent")


BAD: list[tuple[str, dict[str, str]]] = [
    *((WELCOME, {"text": text}) for text in ("{{ name.x }}", "", "x" * 2001, "x\x00")),
    (WELCOME, {"text": "x", "html": "<script>"}),
    (WELCOME, {"text": "x", "subject": "a\nb"}),
    *((f"/v1/templates/{path}", {"text": "x"}) for path in ("test_welcome/hi", "Welcome/hi", "welcome/fr")),
]


async def test_hindi_comes_first_bad_texts_never_and_of_four_writers_one(office: Office, keys: Keys):
    new = {"if-none-match": "*"}
    english = await office.put("/v1/templates/rally/en", {"text": "Rally"}, **new)
    assert (english.status_code, english.json()["type"].rpartition(":")[2]) == (409, "no-hindi-text")
    made = await asyncio.gather(
        *(office.put("/v1/templates/rally/hi", {"text": f"रैली {n}"}, **new) for n in range(4))
    )
    assert sorted(each.status_code for each in made) == [201, 412, 412, 412]
    assert (await office.put("/v1/templates/rally/en", {"text": "Rally"}, **new)).status_code == 201
    for path, body in BAD:
        answer = await office.put(path, body, **{"if-match": '"0"'})
        assert (answer.status_code, bool(answer.json()["errors"])) == (422, True), (path, answer.text)
    few = as_caller(keys, "notifications:write", "BR-SARAN")
    answer = await office.http.put(WELCOME, json={"text": "x"}, headers=few | {"if-match": '"0"'})
    assert answer.status_code == 403


async def test_within_a_day_of_their_own_message_any_text_goes_to_a_person(office: Office, peers: Peers):
    await office.bench.runtime.server_clock.read()
    core, now = office.bench.core, office.bench.core.clock.now()
    await core.fingerprints.ready()
    quiet = await office.welcome(peers, "whatsapp", phone="+919876500001")
    late = await office.welcome(peers, "whatsapp", phone="+919876500002")
    wrote = await office.welcome(peers, "whatsapp", phone="+919876500003")
    written = {"+919876500002": now - timedelta(hours=24), "+919876500003": now - timedelta(hours=23)}

    async def body(work: UnitOfWork) -> None:
        when = {("whatsapp", core.fingerprints.of("whatsapp", to)): at for to, at in written.items()}
        await core.windows.open(when, work.session)

    await office.bench.runtime.outbox.transact(body)
    await office.bench.dispatch()
    [message] = office.chat.taken
    assert (message.member_id, message.approved) == (wrote, None)
    for member in (quiet, late):
        assert (await office.bench.welcome(member)).held_for == "template_not_approved"
