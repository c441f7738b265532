"""The relay alone, draining a full outbox, against the rate at which group commit of POSTs fills an outbox.

Both are rates of one whole process: group commit's is that of the members service, with HTTP and relay at
work, and so the fastest rate at which rows arrive.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial

from prometheus_client import CollectorRegistry

from services.groups.settings import GroupsSettings
from services.shared.clock import SystemClock
from services.shared.database import Lease, connect, database, migrate
from services.shared.messaging import KafkaBroker, MessagingMetrics, Origin, Outbox, Relay, UnitOfWork
from services.shared.runtime.composition import PLATFORM_MIGRATIONS
from tests.bench import ingest
from tests.bench.bed import GROUPS_KEYS
from tests.bench.environment import Environment, joined, new_topics
from tests.bench.figures import Figure, Ratio, best

STAGED_AT_ONCE = 500


async def measure(env: Environment) -> list[Ratio]:
    rounds, count = (3, 20_000) if env.full else (2, 5_000)
    published = [Figure("relay.py", await publish(env, count)) for _ in range(rounds)]
    async with ingest.server(env) as to:
        start = secrets.randbelow(1_000_000)
        staged = [
            Figure(
                "ingest.py /v1/members",
                (await ingest.send(env, to, "/v1/members", start + n * count, count // 2)).rate,
            )
            for n in range(rounds)
        ]
    return [Ratio("events published by a relay, and staged by POSTs", best(published), best(staged), 1.0)]


async def publish(env: Environment, count: int) -> float:
    """Events per second of the relay's own loop, with `count` rows waiting."""
    prefix = await new_topics(env)
    settings = GroupsSettings(mongo_uri=env.mongo, master_keys=GROUPS_KEYS)
    client = connect(env.mongo, app_name="bench")
    db = database(client, prefix.rstrip("."))
    await migrate(db, PLATFORM_MIGRATIONS, SystemClock())
    outbox = Outbox(client, db, SystemClock())
    for start in range(0, count, STAGED_AT_ONCE):
        await outbox.transact(partial(_stage, start, min(count, start + STAGED_AT_ONCE)))
    relay = Relay(
        outbox,
        KafkaBroker(env.kafka, client_id="bench", prefix=prefix),
        Lease(db, "relay", seconds=settings.lease_seconds),
        MessagingMetrics(CollectorRegistry()),
        max_batch=settings.relay_max_batch,
    )
    stop = asyncio.Event()
    await relay.publish_batch()  # connects, and is not counted
    began = time.perf_counter()
    stop.set()
    await relay.run(stop)  # already stopped, so it drains the outbox and returns
    seconds = time.perf_counter() - began
    assert await outbox.rows.count_documents({}) == 0
    await client.drop_database(db.name)
    client.close()
    return (count - settings.relay_max_batch) / seconds


async def _stage(start: int, end: int, work: UnitOfWork) -> None:
    origin = Origin.here()
    for n in range(start, end):
        work.stage(joined(n), 1, origin)
