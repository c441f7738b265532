"""Latency from the POST to the recorded welcome to its count in analytics, at half the sustained rate of the
stack.

The load generator, the four services, mongod and the broker share the machine's cores; at half the rate they
compete, which is part of the figure. The baseline is the same hops, one member at a time on the same stack at
rest.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer

from services.shared.contracts.notifications import TOPIC
from tests.bench.environment import Environment, timed_until
from tests.bench.figures import Figure, Ratio, percentile
from tests.bench.load import Answer
from tests.bench.processor import cpu_seconds
from tests.bench.whole import EVENTS_COUNTED, Whole, whole

QUIET_RATES = (2.0, 5.0, 20.0)
"""Joins a second: the latency while the cores have time left, and where that ends."""


class Journey(NamedTuple):
    """Seconds of one member's path: POST to answer, answer to the welcome's attempt, attempt to its count in
    analytics.

    The last two times are stored by the services: `at` of the attempt, and of the event in analytics' inbox.
    A welcome may be recorded before the caller has read the answer; that hop is then negative and the sum
    still right.
    """

    accepted: float
    recorded: float
    counted: float

    @property
    def whole(self) -> float:
        return sum(self)


async def measure(env: Environment) -> list[Ratio]:
    alone, sustained, seconds = (100, 6_000, 30.0) if env.full else (40, 2_000, 10.0)
    async with whole(env) as stack:
        await stack.join(sustained // 4)  # warms up
        at_rest = await one_by_one(stack, alone)
        quiet = {rate: await busy_at_rate(stack, rate, seconds / 2) for rate in QUIET_RATES}
        peak = sustained / await stack.join(sustained)
        loaded = await at_rate(stack, peak / 2, seconds)
    hops = [
        Figure(f"latency.py, {name} alone", median(at_rest, n), "ms")
        for n, name in enumerate(Journey._fields)
    ]
    baseline = Figure(
        "latency.py, the hops alone: " + " + ".join(_ms(h) for h in hops), sum(h.value for h in hops), "ms"
    )
    totals = [j.whole * 1000 for j in loaded]
    half = Figure(
        f"at {peak / 2:,.0f} joins/s, half of the {peak:,.0f} sustained; p50", percentile(totals, 50), "ms"
    )
    last = Figure(f"at {peak / 2:,.0f} joins/s; p99", percentile(totals, 99), "ms")
    what = "POST to welcome recorded to counted"
    return [
        *(
            Ratio(
                what,
                Figure(f"at {rate:g} joins/s, {busy:.0%} of the cores busy; p50", p50, "ms"),
                baseline,
                None,
            )
            for rate, (p50, busy) in quiet.items()
        ),
        Ratio(what, half, baseline, 1.5, at_most=True),
        Ratio(what, last, half, 4.0, at_most=True),
        *(
            Ratio(f"of that, {name}", Figure("the same; p50", median(loaded, n), "ms"), hops[n], None)
            for n, name in enumerate(Journey._fields)
        ),
    ]


def median(journeys: Sequence[Journey], hop: int) -> float:
    return statistics.median(journey[hop] for journey in journeys) * 1000


def _ms(figure: Figure) -> str:
    return f"{figure.value:.0f}"


async def one_by_one(stack: Whole, count: int) -> list[Journey]:
    answers: list[Answer] = []
    for _ in range(count):
        before = await stack.counted()
        load = await stack.post(1, connections=1, keep=True)
        answers += load.answers or []
        await timed_until(stack.counted, before + EVENTS_COUNTED, time.perf_counter())
    return await journeys(stack, answers)


async def at_rate(stack: Whole, rate: float, seconds: float) -> list[Journey]:
    return await journeys(stack, await posted(stack, rate, seconds))


async def posted(stack: Whole, rate: float, seconds: float) -> list[Answer]:
    """The answers, once all their events are counted."""
    count, before = int(rate * seconds), await stack.counted()
    load = await stack.post(count, rate=rate, keep=True)
    await timed_until(stack.counted, before + EVENTS_COUNTED * count, time.perf_counter())
    return list(load.answers or [])


async def busy_at_rate(stack: Whole, rate: float, seconds: float) -> tuple[float, float]:
    """Median of the whole path in milliseconds, and the share of all cores that services, mongod and broker
    used."""
    pids = [child.pid for child in stack.stack.processes.values()]
    before, began = sum(map(cpu_seconds, pids)), time.perf_counter()
    answers = await posted(stack, rate, seconds)
    busy = (sum(map(cpu_seconds, pids)) - before) / (time.perf_counter() - began) / (os.cpu_count() or 1)
    return statistics.median(j.whole for j in await journeys(stack, answers)) * 1000, busy


async def journeys(stack: Whole, answers: Sequence[Answer]) -> list[Journey]:
    """Raises: `KeyError` when a member has no welcome, or analytics did not count it."""
    of = {orjson.loads(answer.body)["id"]: answer for answer in answers}
    rows = stack.collection("notifications", "notifications").find({"member_id": {"$in": list(of)}})
    attempted = {row["member_id"]: _unix(row["attempts"][-1]["at"]) async for row in rows}
    sent = await sent_events(stack)
    inbox = stack.collection("analytics", "inbox").find({"_id": {"$in": list(sent.values())}})
    counted = {row["_id"]: _unix(row["at"]) async for row in inbox}
    return [
        Journey(answer.at - answer.due, attempted[m] - answer.at, counted[sent[m]] - attempted[m])
        for m, answer in of.items()
    ]


async def sent_events(stack: Whole) -> dict[str, str]:
    """Member id -> id of the event that reports the welcome as sent, from the log."""
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=stack.stack.kafka, auto_offset_reset="earliest")
    await consumer.start()
    found: dict[str, str] = {}
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    headers = dict(record.headers)
                    if headers["ce_type"] == b"notification.sent":
                        found[orjson.loads(record.value)["member_id"]] = headers["ce_id"].decode()
    finally:
        await consumer.stop()
    return found


def _unix(at: datetime) -> float:
    return at.timestamp()
