"""Steering, faults of the line, the ledger, presets and rates: the parts that all gateways share."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from infra.simulators import PRESETS, ExotelSimulator, SteeringError, WhatsAppSimulator
from infra.simulators.callbacks import Callback, CallbackSender, Retries
from infra.simulators.ledger import Ledger
from infra.simulators.presets import Fate
from infra.simulators.steering import NOTHING_SAID, Behaviour, Steering, behaviour
from infra.simulators.timetable import Timetable
from tests.unit.simulators.conftest import Receiver

ASHA, RITA = "+919800000001", "+919800000002"
NO_LIMITS: dict[str, Any] = {"lenient": True, "throughput": None, "pair_rate": False, "messaging_limit": None}


@pytest.fixture
async def gateway(receiver: Receiver) -> AsyncIterator[WhatsAppSimulator]:
    async with WhatsAppSimulator(webhooks_to=receiver.url, **NO_LIMITS) as gateway:
        yield gateway


async def send(
    gateway: WhatsAppSimulator, client: httpx2.AsyncClient, to: str = ASHA, reference: str = "d:1", **how: Any
) -> httpx2.Response:
    template = {"name": "any", "language": {"code": "hi"}}
    body = {"messaging_product": "whatsapp", "to": to, "type": "template", "template": template}
    headers = {"authorization": f"Bearer {gateway.token}"}
    return await client.post(
        gateway.messages_url, json=body | {"biz_opaque_callback_data": reference}, headers=headers, **how
    )


def of(steering: Steering, recipient: str = ASHA, template: str | None = None) -> Behaviour:
    return steering.message([recipient], template, steering.request(), NOTHING_SAID)


def test_the_narrowest_steering_wins_and_counts_down() -> None:
    steering = Steering()
    steering.steer(latency=1, outcome="sent")
    steering.steer(template="news", error=1)
    steering.steer(next=2, after=1, error=2)
    steering.steer(recipient=ASHA, error=3)
    steering.steer(recipient=ASHA, next=1, error=4)
    assert [of(steering).error for _ in range(2)] == [4, 3]
    assert of(steering, RITA, "news").error == 2
    assert of(steering, RITA, "news").error == 1
    assert (of(steering, RITA).error, of(steering, RITA).latency, of(steering, RITA).outcome) == (
        None,
        1,
        "sent",
    )
    assert of(steering).outcome == "sent", "what a recipient's steering leaves open follows the rest"
    steering.clear()
    assert of(steering) is NOTHING_SAID


@pytest.mark.parametrize(
    "wrong",
    [
        {"fault": "explode"},
        {"latency": -1},
        {"pace": 4000},
        {"colour": "red"},
        {"via": "pigeon"},
        {"next": 0, "error": 4},
        {"template": "x", "recipient": ASHA},
    ],
)
def test_a_steering_that_cannot_be_followed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SteeringError):
        Steering().steer(**wrong)


def test_a_gateway_refuses_words_of_another() -> None:
    gateway = WhatsAppSimulator()
    for wrong in ({"outcome": "DELIVERED_TO_HANDSET"}, {"error": "450 busy"}, {"error": 7}):
        with pytest.raises(SteeringError):
            gateway.steer(behaviour(**wrong))


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("reset", httpx2.ReadError),
        ("close", httpx2.RemoteProtocolError),
        ("hang", httpx2.ReadTimeout),
        ("html", 200),
        ("garbage", 200),
        ("empty", 200),
        ("throttle", 400),
    ],
)
async def test_each_fault_with_the_message_taken_or_not(
    gateway: WhatsAppSimulator,
    receiver: Receiver,
    client: httpx2.AsyncClient,
    fault: str,
    what: Any,
    taken: bool,
) -> None:
    gateway.steer(next=1, fault=fault, taken=taken, pace=0)
    if isinstance(what, int):
        answer = await send(gateway, client)
        assert answer.status_code == what
        if fault == "html":
            assert answer.headers["content-type"].startswith("text/html")
        elif fault == "throttle":
            assert answer.json()["error"]["code"] == 130429
        else:
            with pytest.raises(ValueError):
                answer.json()
    else:
        with pytest.raises(what):
            await send(gateway, client, timeout=0.3 if fault == "hang" else 5)
    assert len(gateway.ledger.by_reference("d:1")) == taken
    assert gateway.ledger.faults == {f"{fault}+taken" if taken else fault: 1}
    await gateway.settled()
    assert [s["biz_opaque_callback_data"] for s in receiver.statuses] == ["d:1"] * 2 * taken
    if taken:
        assert not gateway.ledger.by_reference("d:1")[0].answered
        assert (await send(gateway, client)).status_code == 200  # a blind repeat is a duplicate, and shows
        assert gateway.ledger.doubled == {"d:1": 2}


async def test_html_with_502_and_a_slow_answer(
    gateway: WhatsAppSimulator, client: httpx2.AsyncClient
) -> None:
    gateway.steer(next=1, fault="html", status=502)
    assert (await send(gateway, client)).status_code == 502
    gateway.steer(recipient=ASHA, latency=0.1)
    began = time.monotonic()
    assert (await send(gateway, client)).status_code == 200
    assert time.monotonic() - began >= 0.1


async def test_a_status_may_come_before_the_answer(
    gateway: WhatsAppSimulator, receiver: Receiver, client: httpx2.AsyncClient
) -> None:
    gateway.steer(recipient=ASHA, latency=0.2, pace=0)
    sending = asyncio.create_task(send(gateway, client))
    await asyncio.sleep(0.02)
    await gateway.settled()
    assert [each["status"] for each in receiver.statuses] == ["sent", "delivered"]
    assert not sending.done()
    assert (await sending).status_code == 200


async def test_a_recipient_answers(
    gateway: WhatsAppSimulator, receiver: Receiver, client: httpx2.AsyncClient
) -> None:
    gateway.steer(recipient=ASHA, outcome="read", reply="रोकें", pace=0)
    answer = await send(gateway, client)
    await gateway.settled()
    assert [each["status"] for each in receiver.statuses] == ["sent", "delivered", "read"]
    (message,) = receiver.messages
    assert message["text"] == {"body": "रोकें"}
    assert message["context"]["id"] == answer.json()["messages"][0]["id"]


def test_the_ledger_finds_what_is_doubled_or_lost_and_stays_bounded() -> None:
    ledger = Ledger(keep=100)
    for n in range(1_000):
        ledger.take(str(n), f"+91{n}", f"d:{n}", 0, "sms")
    ledger.take("again", "+91999", "d:999", 0, "sms")
    assert ledger.count == 1_001
    assert len(ledger) == 100
    assert ledger.doubled == {"d:999": 2}
    assert ledger.lost(["d:999", "d:5000"]) == {"d:5000"}
    assert [each.id for each in ledger.of("+91999")] == ["999", "again"]
    assert [each.number for each in ledger.after(995, limit=3)] == [996, 997, 998]
    assert len(ledger._recipients) <= 100
    assert len(ledger._references) <= 100
    ledger.clear()
    assert ledger.count == len(ledger.doubled) == 0


def test_the_demo_s_crowd_is_the_same_for_a_seed_and_has_the_promised_shares() -> None:
    demo = PRESETS["demo"]
    people = [f"+9198{n:08d}" for n in range(8_000)]
    fates = [demo.fate(7, person, "d:1") for person in people]
    assert fates == [demo.fate(7, person, "d:1") for person in people]
    assert fates != [demo.fate(8, person, "d:1") for person in people]
    shares = {fate: count / len(people) for fate, count in Counter(fates).items()}
    assert shares[Fate.READ] + shares[Fate.DELIVERED] == pytest.approx(0.92, abs=0.015)
    assert shares[Fate.READ] == pytest.approx(0.46, abs=0.02)
    assert shares[Fate.UNREACHABLE] == pytest.approx(0.04, abs=0.01)
    gone = [person for person, fate in zip(people, fates, strict=True) if fate is Fate.UNREACHABLE]
    assert all(demo.fate(7, person, "d:another") is Fate.UNREACHABLE for person in gone)
    replies = Counter(demo.reply(7, person) for person in people)
    assert set(replies) == {None, "STOP", "रोकें", "kya hua", "हाँ"}
    assert replies["STOP"] / len(people) == pytest.approx(0.01, abs=0.004)


async def test_who_is_not_on_whatsapp_may_get_an_sms() -> None:
    whatsapp, exotel = WhatsAppSimulator(preset="demo", seed=7), ExotelSimulator(preset="demo", seed=7)
    people = [f"+9198{n:08d}" for n in range(2_000)]
    absent = [who for who in people if whatsapp._fate(who, "d:1") is Fate.UNREACHABLE]
    reached = [who for who in absent if exotel._fate(who, "d:2") is not Fate.UNREACHABLE]
    assert len(absent) > 40
    assert len(reached) > 0.9 * len(absent)


async def test_the_timetable_hands_over_in_time_and_order_and_is_bounded() -> None:
    got: list[list[int]] = []
    three = asyncio.Event()

    def work(items: list[int]) -> None:
        got.append(items)
        if sum(map(len, got)) >= 3:
            three.set()

    timetable: Timetable[int] = Timetable(work, tick=0.005, limit=5)
    timetable.start()
    try:
        for item, seconds in ((3, 0.06), (1, 0.0), (2, 0.0), (4, 60.0), (5, 60.0), (6, 0.0)):
            assert timetable.add(item, seconds) == (item != 6)
        await asyncio.wait_for(three.wait(), 10)
        assert [item for batch in got for item in batch] == [1, 2, 3]
        assert got[0] == [1, 2], "what falls due together comes together"
        assert timetable.dropped == 1
        timetable.hurry()
        assert got[-1] == [4, 5]
    finally:
        await timetable.stop()


async def test_the_promised_rates_with_room_to_spare(receiver: Receiver) -> None:
    """250 sends and 300 webhooks a second, and more: the simulator must not be what is measured."""
    load = CallbackSender(Retries((), timeout=10, accepted={200}))
    async with WhatsAppSimulator(webhooks_to=receiver.url, shape="single", **NO_LIMITS) as gateway:
        load.start()
        gateway.steer(outcome="sent", pace=0)
        headers = [("authorization", f"Bearer {gateway.token}"), ("content-type", "application/json")]
        began, cpu = time.perf_counter(), time.process_time()
        for n in range(500):
            body = (
                f'{{"messaging_product":"whatsapp","to":"+9198{n:08d}","type":"template",'
                f'"biz_opaque_callback_data":"d:{n}","template":{{"name":"x","language":{{"code":"hi"}}}}}}'
            )
            load.send(Callback("POST", gateway.messages_url, headers, body.encode()))
        await load.idle()
        await gateway.settled()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        await load.stop()
    assert load.accepted == gateway.ledger.count == 500
    assert not gateway.ledger.doubled
    assert gateway.callbacks.accepted == len(receiver.got) == 500
    # Processor time, not the clock's: other tests run beside this one. Load and receiver are in it too.
    assert cpu < 500 / 250, f"{cpu:.2f} s of processor time in {seconds:.2f} s"
