"""Callbacks are stored as they come, answered at once, and applied once, in whatever order they come."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.notifications.core.domain import Meaning
from services.notifications.core.updates import Delivery, Inbound, Person, Report
from services.shared.ids import new_id
from tests.fixtures.patience import Patience
from tests.integration.notifications.callbacks import SMS_SECRET, Hooks, body_of, signed

PHONE = "+919800000001"
MEBIBYTE = 1024 * 1024


def a_report(
    hooks: Hooks, provider_id: str, status: Delivery = Delivery.DELIVERED, **changed: object
) -> Report:
    fields: dict[str, object] = {
        "provider_id": provider_id,
        "reference": None,
        "status": status,
        "at": hooks.now(),
        "person": Person(phone=PHONE),
    }
    return Report(**(fields | changed))  # type: ignore[arg-type]


# -- receiving


async def test_the_challenge_is_answered_to_who_knows_the_token(hooks: Hooks) -> None:
    asked = {
        "hub.mode": "subscribe",
        "hub.verify_token": "a_verify_token_of_ours",
        "hub.challenge": "1158201444",
    }
    answer = await hooks.http.get("/webhooks/whatsapp", params=asked)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    for wrong in ({"hub.verify_token": "another_token_of_ours_"}, {"hub.mode": "unsubscribe"}):
        assert (await hooks.http.get("/webhooks/whatsapp", params=asked | wrong)).status_code == 403


async def test_a_callback_is_stored_sealed_and_not_read(hooks: Hooks) -> None:
    """A repeated one is the same; unknown fields are none of the intake's business."""
    await hooks.bench.runtime.server_clock.read()
    body = b'{"object":"whatsapp_business_account","entry":[],"new":{"to":"919800000001"}}'
    for _ in range(3):
        answer = await hooks.http.post("/webhooks/whatsapp", content=body, headers=signed(body))
        assert (answer.status_code, answer.content) == (200, b"")
    rows = await hooks.database["callbacks"].find({}).to_list(None)
    assert len(rows) == 1
    assert b"919800000001" not in repr(rows).encode()
    assert hooks.gateways["whatsapp"].parsed == 0
    opened = await hooks.bench.core.vault.open([(rows[0]["_id"], rows[0]["sealed"])])
    assert opened[0]["body"] == body
    counted = [hooks.value("sangathan_callbacks_total", outcome=o) for o in ("stored", "repeated")]
    assert counted == [1, 2]
    assert rows[0]["forget_at"] - rows[0]["received_at"] > timedelta(days=8)


@pytest.mark.parametrize(
    "forged", ["missing", "short", "other_secret", "of_other_bytes", "truncated", "sha1", "odd"]
)
async def test_a_forged_callback_is_refused_and_leaves_nothing(hooks: Hooks, forged: str) -> None:
    body = body_of(a_report(hooks, "wamid.1"))
    right = signed(body)["x-hub-signature-256"]
    sent = body[:-7] if forged == "truncated" else body
    header = {
        "missing": {},
        "short": {"x-hub-signature-256": right[:-1]},
        "other_secret": signed(body, "another_app_secret_of_theirs"),
        "of_other_bytes": signed(body.replace(b": ", b":")),
        "truncated": {"x-hub-signature-256": right},
        "sha1": {"x-hub-signature-256": "sha1=" + right.removeprefix("sha256=")},
        "odd": {"x-hub-signature-256": right[:-1] + "\u00ff"},
    }[forged]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in header.items()]
    answer = await hooks.http.post("/webhooks/whatsapp", content=sent, headers=raw)
    assert answer.status_code == 403
    assert await hooks.database["callbacks"].count_documents({}) == 0


async def test_four_mebibytes_are_taken_and_five_are_not(hooks: Hooks) -> None:
    """Also not piece by piece, without a length."""
    await hooks.bench.runtime.server_clock.read()
    large = b"x" * (4 * MEBIBYTE)
    assert (
        await hooks.http.post("/webhooks/whatsapp", content=large, headers=signed(large))
    ).status_code == 200
    body = b"x" * (5 * MEBIBYTE)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 65_536):
            yield body[at : at + 65_536]

    for content in (body, pieces()):
        answer = await hooks.http.post("/webhooks/whatsapp", content=content, headers=signed(body))
        assert answer.status_code == 413
    assert await hooks.database["callbacks"].count_documents({}) == 1
    for content, status in ((large, 200), (body, 413)):  # an SMS gateway's, too
        answer = await hooks.http.post(f"/webhooks/sms/exotel/{SMS_SECRET}", content=content)
        assert answer.status_code == status


async def test_bodies_share_bounded_room_and_small_ones_still_fit(hooks: Hooks) -> None:
    await hooks.bench.runtime.server_clock.read()
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * (4 * MEBIBYTE - 1)
        await release.wait()
        yield b"x"

    whole = signed(b"x" * 4 * MEBIBYTE)
    posts = [
        asyncio.create_task(hooks.http.post("/webhooks/whatsapp", content=slow(), headers=whole))
        for _ in range(16)
    ]
    refused = 0
    patience = Patience(30)
    while refused < 4:  # three quarters of 64 MiB are twelve such bodies
        await asyncio.sleep(0.01)
        refused = sum(post.done() and post.result().status_code == 503 for post in posts)
        patience.check(refused)
    small = body_of()
    assert (
        await hooks.http.post("/webhooks/whatsapp", content=small, headers=signed(small))
    ).status_code == 200
    release.set()
    assert sorted(answer.status_code for answer in await asyncio.gather(*posts)) == [200] * 12 + [503] * 4


async def test_a_gateway_of_sms_is_known_by_the_secret_in_its_url(hooks: Hooks) -> None:
    await hooks.bench.runtime.server_clock.read()
    for path, status in {
        f"/webhooks/sms/exotel/{SMS_SECRET}": 200,
        f"/webhooks/sms/exotel/{SMS_SECRET[:-1]}": 404,
        "/webhooks/sms/exotel/x": 404,
        f"/webhooks/sms/nobody/{SMS_SECRET}": 404,
        f"/webhooks/sms/unread/{SMS_SECRET}": 404,  # it has a secret, and nothing here reads its callbacks
        f"/webhooks/sms/exotel/{SMS_SECRET}?to=919800000001": 422,
    }.items():
        assert (await hooks.http.post(path, content=b"SmsSid=1")).status_code == status, path
    rows = await hooks.database["callbacks"].find({}).to_list(None)
    assert [row["source"] for row in rows] == ["sms/exotel"]


# -- applying


async def test_reports_are_applied_once_and_never_go_back(hooks: Hooks) -> None:
    record = await hooks.sent_to(new_id(), PHONE)
    statuses = [Delivery.READ, Delivery.SENT, Delivery.DELIVERED, Delivery.FAILED]
    reports = [a_report(hooks, record.provider_id or "", status) for status in statuses]
    await hooks.tell(*reports)
    await hooks.tell(reports[1], reports[1])
    after = await hooks.delivery(record)
    assert (after.status, set(after.reached)) == ("read", {"read", "sent", "delivered", "failed"})
    assert await hooks.database["callbacks"].find({"sealed": {"$exists": True}}).to_list(None) == []
    assert hooks.value("sangathan_updates_total", kind="report", outcome="nothing_new") == 2


async def test_a_report_is_found_by_our_reference_and_teaches_the_providers_id(hooks: Hooks) -> None:
    record = await hooks.sent_to(new_id(), PHONE, provider_id=None)
    await hooks.tell(a_report(hooks, "wamid.new", Delivery.SENT, reference=record.id))
    await hooks.tell(a_report(hooks, "wamid.new", Delivery.READ))
    assert (await hooks.delivery(record)).status == "read"


async def test_another_gateway_says_nothing_of_this_ones_messages(hooks: Hooks) -> None:
    record = await hooks.sent_to(new_id(), PHONE)
    forged = a_report(hooks, record.provider_id or "", Delivery.READ, reference=record.id)
    await hooks.tell(forged, source="sms/exotel")
    assert (await hooks.delivery(record)).status == "queued"


async def test_a_report_that_comes_too_early_waits_for_its_message(hooks: Hooks) -> None:
    early = a_report(hooks, "wamid.early", Delivery.READ)
    await hooks.tell(early)
    await hooks.tell(early, a_report(hooks, "wamid.never"))
    assert await hooks.database["parked"].count_documents({}) == 2
    assert PHONE[1:] not in repr(await hooks.database["parked"].find({}).to_list(None))
    record = await hooks.sent_to(new_id(), PHONE, provider_id="wamid.early")
    await hooks.passes("parked", timedelta(minutes=1))
    await hooks.applier.look_again()
    assert (await hooks.delivery(record)).status == "read"
    assert await hooks.database["parked"].count_documents({}) == 1
    await hooks.passes("parked", timedelta(days=1))
    await hooks.applier.look_again()
    assert await hooks.database["parked"].count_documents({}) == 0
    assert hooks.value("sangathan_reports_given_up_total") == 1


async def test_one_bad_update_of_a_thousand_holds_up_no_other(hooks: Hooks) -> None:
    """It is on a list without its content, and applied when that has become possible."""
    record = await hooks.sent_to(new_id(), PHONE)
    good = [a_report(hooks, f"wamid.{n}") for n in range(998)]
    bad = a_report(hooks, "w" * 300)
    await hooks.tell(*good[:500], bad, *good[500:], a_report(hooks, record.provider_id or "", Delivery.READ))
    assert (await hooks.delivery(record)).status == "read"
    assert await hooks.database["parked"].count_documents({}) == 998
    headers = {"authorization": f"Bearer {hooks.token('ops:read ops:write')}"}
    listed = (await hooks.http.get("/v1/callbacks/buried", headers=headers)).json()["items"]
    assert [(each["source"], each["reason"]) for each in listed] == [("whatsapp", "not_applied")]
    assert PHONE[1:] not in repr(listed)
    await hooks.database["parked"].delete_many({})
    again = await hooks.http.post(f"/v1/callbacks/{listed[0]['id']}/apply", headers=headers)
    assert again.status_code == 202
    await hooks.apply()
    assert await hooks.database["parked"].count_documents({}) == 998


async def test_what_is_not_of_the_provider_is_set_aside_alone(hooks: Hooks) -> None:
    record = await hooks.sent_to(new_id(), PHONE)
    await hooks.bench.runtime.server_clock.read()
    for body in (b"<html>busy</html>", b"", b'[{"is":"Nothing"}]', b"\x00" * 100):
        assert (
            await hooks.http.post("/webhooks/whatsapp", content=body, headers=signed(body))
        ).status_code == 200
    await hooks.tell(a_report(hooks, record.provider_id or "", Delivery.READ))
    assert (await hooks.delivery(record)).status == "read"
    assert hooks.value("sangathan_callbacks_buried_total", reason="unreadable") == 4


async def test_two_replicas_apply_everything_once(hooks: Hooks, other_hooks: Hooks) -> None:
    members = [new_id() for _ in range(20)]
    records = [await hooks.sent_to(member, f"+9198000001{n:02}") for n, member in enumerate(members)]
    updates = [
        a_report(
            hooks, record.provider_id or "", status, meaning=Meaning.RECIPIENT, error_class="unreachable"
        )
        for record in records
        for status in (Delivery.SENT, Delivery.FAILED)
    ]
    texts = [
        Inbound(f"in.{n}", Person(phone=f"+9198000001{n:02}"), hooks.now(), text=f"answer {n}")
        for n in range(20)
    ]
    mixed: list[Report | Inbound] = [*updates, *texts] * 3
    random.Random(16).shuffle(mixed)
    for at in range(0, len(mixed), 7):
        await hooks.receive(*mixed[at : at + 7])
    await asyncio.gather(*(each.apply() for each in (hooks, other_hooks) * 3))
    assert {(await hooks.delivery(record)).status for record in records} == {"failed"}
    for member in members:
        events = await hooks.bench.events(member)
        assert sorted(event.type for event in events) == ["member.replied", "member.unreachable"]
        assert [event.sequence for event in events] == [1, 2]
    assert await hooks.database["callbacks"].count_documents({"due_at": {"$exists": True}}) == 0


@pytest.mark.parametrize("where", ["within", pytest.param("after", marks=pytest.mark.heavy)])
async def test_kill_9_while_applying_loses_and_doubles_nothing(hooks: Hooks, where: str) -> None:
    member = new_id()
    record = await hooks.sent_to(member, PHONE)
    await hooks.receive(
        a_report(hooks, record.provider_id or "", Delivery.READ),
        Inbound("in.1", Person(phone=PHONE), hooks.now(), text="yes"),
    )
    settings = hooks.bench.settings.model_copy(update={"callback_claim_seconds": 6.0})
    environment = os.environ | {"KILLED_SETTINGS": _as_json(settings), "KILLED_AT": where}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.notifications.killed_applier",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert await asyncio.wait_for(child.stdout.readline(), 60) == b"standing\n"
    child.kill()
    await child.wait()
    # MongoDB gives up the transaction of a dead process after a minute (transactionLifetimeLimitSeconds).
    await hooks.bench.runtime.client.admin.command("killAllSessions", [])
    patience = Patience(30)
    while await hooks.database["callbacks"].count_documents({"applied_at": {"$exists": True}}) == 0:
        await hooks.bench.runtime.server_clock.read()
        await hooks.applier.apply()
        await asyncio.sleep(0.05)
        patience.check("the claim runs out")
    assert (await hooks.delivery(record)).status == "read"
    assert [event.type for event in await hooks.bench.events(member)] == ["member.replied"]


def _as_json(settings: object) -> str:
    dumped = settings.model_dump(mode="json")  # type: ignore[attr-defined]
    dumped["master_keys"] = {"test": "A" * 128}
    return json.dumps(dumped)


async def test_an_open_breaker_is_listed_and_can_be_closed(hooks: Hooks) -> None:
    await hooks.bench.runtime.server_clock.read()
    breakers = hooks.bench.core.breakers
    await breakers.trip("cloud_api", Meaning.TEMPLATE, "welcome/hi", "template_stopped")
    headers = {"authorization": f"Bearer {hooks.token('ops:read ops:write')}"}
    [shown] = (await hooks.http.get("/v1/breakers", headers=headers)).json()["items"]
    assert (shown["sender"], shown["kind"], shown["subject"]) == ("cloud_api", "template", "welcome/hi")
    path = f"/v1/breakers/{shown['id']}"
    assert (await hooks.http.delete(path, headers=headers)).status_code == 204
    assert await breakers.count() == {}
    assert (await hooks.http.delete(path, headers=headers)).status_code == 404
