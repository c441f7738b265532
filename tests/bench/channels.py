"""Sending by a gateway while its callbacks come in, against the same loop by hand
(contenders/sending_by_hand.py).

One process of notifications sends SMS to the simulator and takes 300 callbacks a second; both, MongoDB, the
broker and the load generator share the cores. Members and groups are stand-ins in this process, which answer
at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx2
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.local.ports import HOST, Ports
from infra.local.registering import register_texts
from infra.local.services import Surroundings, answers, url
from infra.local.simulated import CALLBACK_SECRET, PORTS, SimulatedGateways
from services.notifications.core.domain import Cause, Notification, Patience, queue_welcome
from services.notifications.core.recipients import Recipient
from services.notifications.core.store import _RECIPIENT, notification_document
from services.shared.clock import SystemClock
from services.shared.database import Database, Document, connect, database
from services.shared.ids import new_id
from tests.bench.environment import Environment, new_topics, process, timed_until, timed_until_true
from tests.bench.figures import Figure, Ratio, best, percentile
from tests.bench.load import Load, post
from tests.fixtures.poison import TRACE

CALLBACKS_PER_SECOND = 300
SENDS_PER_SECOND = 250
MOST_PER_SECOND = 700
"""As many messages wait as the faster of the two could send."""
LATENCY_MS = 50.0
WARM = 300
CONNECTIONS = 16
GOAL = 0.5
FLOOR = 0.3
"""Reached reliably, even on a noisy machine."""
UNIT = "BR-D1-B1"
GROUP = "01976b9e-0000-7000-8000-000000000001"
CALLBACK_PATH = f"/webhooks/sms/exotel/{CALLBACK_SECRET}"
FORM = "application/x-www-form-urlencoded"
TEXT = "नमस्ते सुनीता देवी! सारण समूह में आपका स्वागत है। समूह: https://chat.whatsapp.com/abcdefghijklmnopqrst"


@dataclass(frozen=True)
class Measured:
    sends: float
    """A second."""
    callbacks: float
    p50: float
    p99: float
    """Milliseconds from when a callback was due to its answer."""


async def measure(env: Environment) -> list[Ratio]:
    rounds, seconds = (2, 10.0) if env.full else (1, 5.0)
    ours: list[Measured] = []
    by_hand: list[Measured] = []
    for _ in range(rounds):  # alternating, so that a noisy minute hurts both
        async with simulator(env) as gateways:
            ours.append(await _service(env, gateways, seconds))
        async with simulator(env) as gateways:
            by_hand.append(await _by_hand(env, gateways, seconds))
    fastest = max(ours, key=lambda each: each.sends)
    name = "channels.py, notifications"
    together = f"with {CALLBACKS_PER_SECOND} callbacks a second"
    return [
        Ratio(
            f"SMS sent by a gateway, {together}",
            Figure(name, fastest.sends),
            best([Figure("contenders/sending_by_hand.py", each.sends) for each in by_hand]),
            GOAL,
            floor=FLOOR,
        ),
        Ratio(
            f"SMS sent by a gateway, {together}",
            Figure(name, fastest.sends),
            Figure("the rate that is wanted", SENDS_PER_SECOND),
            1.0,
            floor=0.5,
        ),
        Ratio(
            "callbacks taken, while sending",
            Figure(name, fastest.callbacks),
            Figure("the rate at which they come", CALLBACKS_PER_SECOND),
            0.95,
            floor=0.8,
        ),
        Ratio(
            "callback to its answer, while sending; p99",
            Figure(name, fastest.p99, "ms"),
            Figure("contenders/sending_by_hand.py", min(each.p99 for each in by_hand), "ms"),
            None,
        ),
    ]


async def measure_webhooks(env: Environment) -> list[Ratio]:
    """Callbacks alone, at 300 a second, until the last is applied."""
    seconds = 20.0 if env.full else 5.0
    async with simulator(env) as gateways, _notifications(env, gateways) as service:
        count = int(CALLBACKS_PER_SECOND * seconds)
        references = await service.sent(count)
        began = time.perf_counter()
        load = await service.call_back(references)
        took = await timed_until(service.delivered, count, began)
    latencies = _latencies(load)
    name = "channels.py, notifications"
    return [
        Ratio(
            f"callback to its answer, {CALLBACKS_PER_SECOND} a second; p99",
            Figure(name, percentile(latencies, 99), "ms"),
            Figure("the allowance", LATENCY_MS, "ms"),
            1.0,
            at_most=True,
        ),
        Ratio(
            "callbacks applied",
            Figure(name, count / took),
            Figure("the rate at which they come", CALLBACKS_PER_SECOND),
            0.9,
            floor=0.8,
        ),
    ]


@asynccontextmanager
async def simulator(env: Environment) -> AsyncIterator[SimulatedGateways]:
    """Fresh simulators that take everything and tell nothing by themselves."""
    with Ports() as ports:
        gateways = SimulatedGateways(
            {name: ports.take() for name in PORTS}, url(ports.take()), env.directory, preset="silent"
        )
        child = gateways.child(env.directory)
        await child.start()
        try:
            yield gateways
        finally:
            await child.stop()


@dataclass
class Sending:
    """A running contender: `add` makes messages due and returns their references."""

    gateways: SimulatedGateways
    db: Database
    port: int
    add: Callable[[int], Any]
    told: tuple[str, Document]
    """The collection in which a callback is seen to be applied, and the query."""

    async def taken(self) -> int:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.gateways.url('control')}/exotel/summary")
        return int(answer.json()["taken"])

    async def delivered(self) -> int:
        name, query = self.told
        return await self.db[name].count_documents(query)

    async def sent(self, count: int) -> Sequence[str]:
        """Send so many, and wait until all are; their references."""
        before = await self.taken()
        references: Sequence[str] = await self.add(count)
        await timed_until(self.taken, before + count, time.perf_counter())
        return references

    async def call_back(self, references: Sequence[str]) -> Load:
        return await post(
            HOST,
            self.port,
            CALLBACK_PATH,
            "none",
            map(_callback, references),
            connections=CONNECTIONS,
            rate=CALLBACKS_PER_SECOND,
            keep=True,
            media_type=FORM,
        )

    async def together(self, seconds: float) -> Measured:
        """Sends in the seconds in which callbacks come."""
        references = await self.sent(max(WARM, int(CALLBACKS_PER_SECOND * seconds)))
        await self.add(int(MOST_PER_SECOND * seconds))
        start = await self.taken()
        await timed_until(self.taken, start + 1, time.perf_counter())
        before, began = await self.taken(), time.perf_counter()
        load = await self.call_back(references)
        taken, took = await self.taken() - before, time.perf_counter() - began
        if set(load.statuses) != {200}:
            raise RuntimeError(f"callbacks: {dict(load.statuses)}")
        await timed_until(self.delivered, len(references), time.perf_counter())
        latencies = _latencies(load)
        return Measured(taken / took, load.rate, percentile(latencies, 50), percentile(latencies, 99))


async def _service(env: Environment, gateways: SimulatedGateways, seconds: float) -> Measured:
    async with _notifications(env, gateways) as service:
        return await service.together(seconds)


@asynccontextmanager
async def _notifications(env: Environment, gateways: SimulatedGateways) -> AsyncIterator[Sending]:
    prefix = await new_topics(env)
    name = prefix.rstrip(".")
    client = connect(env.mongo, app_name="bench")
    db = database(client, name)
    port = int(gateways.notifications.rpartition(":")[2])
    with Ports() as ports:
        peers = ports.take()
        around = Surroundings(
            {"notifications": port, "members": peers, "groups": peers},
            env.mongo,
            env.kafka,
            env.keys,
            static_members=False,
        )
        settings = {
            **around.environment("notifications", "notifications"),
            **gateways.environment(),
            "SANGATHAN_KAFKA_PREFIX": prefix,
            "SANGATHAN_MONGO_DATABASE": name,
            "SANGATHAN_SMS_PER_SECOND": "1000",
            "SANGATHAN_POLL_MINUTES": "1440",
        }
        async with (
            _standing_in(peers),
            process(env, "notifications", "-m", "services.notifications", variables=settings),
        ):
            await timed_until_true(lambda: answers(port, "/readyz"), seconds=60)
            await register_texts(url(port), env.keys.mint("notifications:read notifications:write", "*"))
            numbers = iter(range(10**9))

            async def add(count: int) -> Sequence[str]:
                made = [_welcome(next(numbers)) for _ in range(count)]
                await db["recipients"].insert_many([_RECIPIENT.encode(recipient) for recipient, _ in made])
                await db["notifications"].insert_many([notification_document(note) for _, note in made])
                return [f"{note.id}.1" for _, note in made]

            yield Sending(gateways, db, port, add, ("deliveries", {"status": "delivered"}))
    await client.drop_database(name)
    client.close()


async def _by_hand(env: Environment, gateways: SimulatedGateways, seconds: float) -> Measured:
    name = (await new_topics(env)).rstrip(".")
    client = connect(env.mongo, app_name="bench")
    db = database(client, name)
    await db["messages"].create_index("state")
    port = int(gateways.notifications.rpartition(":")[2])
    variables = {
        "BENCH_MONGO": env.mongo,
        "BENCH_DATABASE": name,
        "BENCH_PORT": str(port),
        "BENCH_EXOTEL": gateways.url("exotel"),
    }
    numbers = iter(range(10**9))

    async def add(count: int) -> Sequence[str]:
        rows = [
            {"_id": new_id(), "state": "queued", "address": _phone(next(numbers)), "text": TEXT}
            for _ in range(count)
        ]
        await db["messages"].insert_many(rows)
        return [f"{row['_id']}.1" for row in rows]

    command = ("-m", "tests.bench.contenders.sending_by_hand")
    async with process(env, "by-hand", *command, variables=variables):
        await timed_until_true(lambda: answers(port, "/readyz"), seconds=60)
        hand = Sending(gateways, db, port, add, ("messages", {"status": "delivered"}))
        measured = await hand.together(seconds)
    await client.drop_database(name)
    client.close()
    return measured


def _welcome(n: int) -> tuple[Recipient, Notification]:
    """A member who has a seat in a group with a link, and the welcome to them, due now."""
    now = SystemClock().now()
    recipient = Recipient(
        member_id=_member_id(n),
        joined=True,
        unit=UNIT,
        language="hi",
        channels=("sms",),
        group_id=GROUP,
        announced=True,
    )
    step = queue_welcome(
        recipient,
        invited=True,
        language="hi",
        cause=Cause("bench", TRACE),
        now=now,
        patience=Patience(timedelta(hours=24), timedelta(days=30)),
    )
    return recipient, step.state


def _member_id(n: int) -> str:
    return f"01976b9e-0000-7000-9000-{n:012d}"


def _phone(n: int) -> str:
    return f"+91{7_000_000_000 + n}"


def _callback(reference: str) -> bytes:
    told = {
        "SmsSid": f"late{reference}",
        "To": "+917000000000",
        "Status": "delivered",
        "DetailedStatus": "DELIVERED_TO_HANDSET",
        "DetailedStatusCode": "20005",
        "SmsUnits": "1",
        "CustomField": reference,
    }
    return urlencode(told).encode()


def _latencies(load: Load) -> list[float]:
    return [(answer.at - answer.due) * 1000 for answer in load.answers or ()]


@asynccontextmanager
async def _standing_in(port: int) -> AsyncIterator[None]:
    """Members and groups, which know everybody."""

    async def resolve(request: Request) -> Response:
        ids = (await request.json())["ids"]
        make = _contact if request.url.path.startswith("/v1/members") else _group
        return Response(orjson.dumps({"items": [make(id_) for id_ in ids], "missing": []}))

    routes = [Route(f"/v1/{name}/resolve", resolve, methods=["POST"]) for name in ("members", "groups")]
    config = uvicorn.Config(Starlette(routes=routes), port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    with contextlib.ExitStack():
        task = asyncio.create_task(server.serve())
        try:
            yield
        finally:
            server.should_exit = True
            await task


def _contact(id_: str) -> Mapping[str, Any]:
    return {
        "id": id_,
        "name": "सुनीता देवी",
        "phone": _phone(int(id_[-12:])) if id_[-12:].isdecimal() else "",
        "email": None,
        "language": "hi",
        "status": "active",
        "unit": UNIT,
        "consents": [{"purpose": "welcome", "channel": "sms"}],
        "own_number": True,
    }


def _group(id_: str) -> Mapping[str, Any]:
    return {
        "id": id_,
        "unit": UNIT,
        "kind": "general",
        "ordinal": 1,
        "name": {"hi": "सारण समूह", "en": "Saran group"},
        "capacity": 1024,
        "members": 1,
        "state": "open",
        "invite_link": "https://chat.whatsapp.com/abcdefghijklmnopqrst",
        "invite_ready": True,
        "admins": 2,
        "retired": None,
        "version": 1,
    }
