"""Webhooks of the WhatsApp simulator: signatures, three levels of batching, disorder, retries, replays."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from infra.simulators.callbacks import Retries
from infra.simulators.presets import Preset
from infra.simulators.whatsapp import WhatsAppSimulator, payloads
from infra.simulators.whatsapp.webhooks import MAX_BYTES, Shape
from tests.unit.simulators.conftest import Receiver

QUICK = Retries((0.0, 0.01), timeout=5, accepted={200})


@pytest.fixture
async def gateway(receiver: Receiver) -> AsyncIterator[WhatsAppSimulator]:
    async with WhatsAppSimulator(
        webhooks_to=receiver.url, retries=QUICK, preset=Preset(name="quick", pace=0)
    ) as gateway:
        yield gateway


def statuses(gateway: WhatsAppSimulator, count: int) -> list[payloads.Update]:
    """Updates for `count` people, one in ten failed."""
    made = []
    for n in range(count):
        person = gateway.people.by_phone(f"+9198{n:08d}")
        word, opaque = ("failed" if n % 10 == 9 else "delivered"), "x" * 512
        made.append(
            payloads.status(f"wamid.{n}", word, 1795600000, person, to_phone=True, opaque=opaque, errors=())
        )
    return made


async def test_every_webhook_is_signed_over_its_very_bytes(
    gateway: WhatsAppSimulator, receiver: Receiver
) -> None:
    gateway.inbound_text("+919800000001", "रोकें 🙏")
    gateway.webhooks.post(b'{"object": "spaced"}')
    await gateway.settled()
    for got in receiver.got:
        digest = hmac.new(b"test_app_secret", got.body, hashlib.sha256).hexdigest()
        assert got.headers["x-hub-signature-256"] == f"sha256={digest}"
        assert got.body.isascii()
    (text,) = receiver.got[0].json["entry"][0]["changes"][0]["value"]["messages"]
    assert text["text"]["body"] == "रोकें 🙏"
    assert rb"\u0930" in receiver.got[0].body


async def test_a_forged_or_unsigned_body_can_be_sent(gateway: WhatsAppSimulator, receiver: Receiver) -> None:
    gateway.webhooks.post(b"{}", signature="sha256=" + "0" * 64)
    gateway.webhooks.post(b"{}", signature="")
    await gateway.settled()
    signatures = {got.headers.get("x-hub-signature-256") for got in receiver.got}
    assert signatures == {"sha256=" + "0" * 64, None}


@pytest.mark.parametrize("shape", ["single", "changes", "values", "mixed"])
async def test_batches_on_three_levels_hold_every_update_once(
    gateway: WhatsAppSimulator, receiver: Receiver, shape: Shape
) -> None:
    count = 150 if shape == "single" else 1_100
    gateway.webhooks.shape = shape
    gateway.tell(*statuses(gateway, count))
    await gateway.settled()
    assert Counter(status["id"] for status in receiver.statuses) == {f"wamid.{n}": 1 for n in range(count)}
    assert all(len(got.body) < MAX_BYTES for got in receiver.got)
    sizes = [[len(entry["changes"]) for entry in got.json["entry"]] for got in receiver.got]
    per_value = [len(change["value"]["statuses"]) for change in receiver.changes]
    match shape:
        case "single":
            assert sizes == [[1]] * count
            assert set(per_value) == {1}
        case "changes":
            assert sorted(sizes) == [[100], [1_000]]
        case "values":
            assert sizes == [[1], [1]]
            assert sorted(per_value) == [100, 1_000]
        case "mixed":
            assert max(len(each) for each in sizes) > 1, "several entries"
            assert max(max(each) for each in sizes) > 1, "several changes in an entry"
            assert max(per_value) > 1, "several statuses in a value"
    for change in receiver.changes:  # contacts of those that have any, each once
        value = change["value"]
        known = [contact["user_id"] for contact in value.get("contacts", ())]
        alive = [s["recipient_user_id"] for s in value["statuses"] if s["status"] != "failed"]
        assert known == alive


async def test_repeats_late_ones_missing_ones_and_another_order(
    gateway: WhatsAppSimulator, receiver: Receiver
) -> None:
    disorder = gateway.webhooks.disorder
    gateway.webhooks.shape = "single"
    disorder.repeat, disorder.shuffle = 1.0, True
    gateway.tell(*statuses(gateway, 50))
    await gateway.settled()
    ids = [status["id"] for status in receiver.statuses]
    assert Counter(ids) == {f"wamid.{n}": 2 for n in range(50)}
    assert ids != sorted(ids, key=lambda wamid: int(wamid.removeprefix("wamid.")))

    receiver.got.clear()
    disorder.repeat = 0.0
    disorder.missing, disorder.late, disorder.late_by = 1.0, 0.0, 0.02
    gateway.release(_taken(gateway), "read")
    await gateway.settled()
    assert sorted(status["status"] for status in receiver.statuses) == ["read", "sent"]


def _taken(gateway: WhatsAppSimulator) -> str:
    fields = {"input": "+919800000001", "category": "utility"}
    return gateway.ledger.take("wamid.X", "+919800000001", "d:1", 0, "template", fields=fields).id


async def test_a_late_sent_after_delivered(gateway: WhatsAppSimulator, receiver: Receiver) -> None:
    class Late:
        shares = iter((0.2, 0.0))

    gateway.webhooks.shape = "single"
    gateway.webhooks.late = lambda: next(Late.shares)  # type: ignore[method-assign]
    gateway.release(_taken(gateway), "delivered")
    await gateway.settled()
    assert [status["status"] for status in receiver.statuses] == ["delivered", "sent"]


@pytest.mark.parametrize(("answers", "attempts", "accepted"), [([500, 404], 3, 1), ([202, 500, 500], 3, 0)])
async def test_everything_but_200_is_sent_again(
    gateway: WhatsAppSimulator, receiver: Receiver, answers: list[int], attempts: int, accepted: int
) -> None:
    receiver.answers = answers
    gateway.inbound_text("+919800000001", "हाँ")
    await gateway.settled()
    assert len(receiver.got) == attempts
    assert len({got.body for got in receiver.got}) == 1
    assert (gateway.callbacks.accepted, gateway.callbacks.given_up) == (accepted, 1 - accepted)


async def test_a_replay_after_three_days_has_the_same_bytes(
    gateway: WhatsAppSimulator, receiver: Receiver
) -> None:
    gateway.clock.advance(-3 * 24 * 3600)
    gateway.inbound_text("+919800000001", "एक")
    gateway.inbound_text("+919800000001", "दो")
    await gateway.settled()
    first = [got.body for got in receiver.got]
    gateway.clock.advance(3 * 24 * 3600)
    assert gateway.replay() == 2
    assert gateway.replay(1) == 1
    await gateway.settled()
    assert Counter(got.body for got in receiver.got) == {first[0]: 2, first[1]: 3}
    (message,) = json.loads(first[0])["entry"][0]["changes"][0]["value"]["messages"]
    assert gateway.clock.now() - int(message["timestamp"]) > 3 * 24 * 3600 - 60


async def test_verification_of_the_callback_url(gateway: WhatsAppSimulator, receiver: Receiver) -> None:
    assert await gateway.verify() == (200, True)
    assert await gateway.verify(token="wrong") == (403, False)


async def test_a_card_tells_whether_the_number_is_one_s_own(
    gateway: WhatsAppSimulator, receiver: Receiver
) -> None:
    gateway.inbound_contact("+919800000001", "+919800000001", own=True, to="wamid.OUT1")
    gateway.inbound_contact("+919800000001", "+919800000002", own=False)
    await gateway.settled()
    cards = [(message["type"], message["contacts"][0]["origin"]) for message in receiver.messages]
    assert sorted(cards) == [("contacts", "contact_request"), ("contacts", "other")]


async def test_callbacks_go_to_this_machine_only(gateway: WhatsAppSimulator) -> None:
    gateway.webhooks.url = "http://192.0.2.1/hooks"
    gateway.inbound_text("+919800000001", "हाँ")
    assert gateway.callbacks.refused_hosts == 1
    assert gateway.unsettled == 0
