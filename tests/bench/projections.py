"""Building projections from the log, against the ordinary consumer that drains the same log: how fast, and in
how much memory.

The consumer applies each event to all projections, with its inbox. Then a build of all projections reads the
log from its beginning, in a process of its own on a database that follows it. Nothing else goes on meanwhile.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

from services.analytics.core.places import COLLECTION, FIRST, POINTER
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupMemberAssigned, UnitUpserted
from services.shared.contracts.members import MemberJoined, MemberMoved
from services.shared.contracts.vocabulary import LEVELS, Gender, lineage
from services.shared.database import Database, connect, database
from services.shared.ids import new_id
from services.shared.messaging import Message, encode
from tests.bench.environment import UNITS, Environment, fill, new_topics, process, timed_until
from tests.bench.figures import Figure, Ratio
from tests.bench.processor import peak_bytes
from tests.fixtures.poison import TRACE

GOAL = 0.8
FLAT = 1.3
"""The most memory that ten times the events may take, as a share of what a tenth of them takes."""
NAMES = [*FIRST, "coverage"]
SLOWEST = 300.0
"""Events a second that even a busy machine reaches; the limit of patience follows from it."""


async def measure(env: Environment) -> list[Ratio]:
    many = 2_000_000 if env.full else 20_000
    few = max(many // 10, 10_000)  # less than that does not fill the buffers
    small, large = await measured(env, few), await measured(env, many)
    return [
        Ratio(
            f"{many:,} events built into projections",
            Figure("a build", large["build"]),
            Figure("projections.py, the consumer of analytics", large["drain"]),
            GOAL,
            floor=0.6,
        ),
        Ratio(
            f"memory of a build of {many:,} events",
            Figure(f"of {many:,}", large["memory"] / 2**20, "MiB"),
            Figure(f"projections.py, of {few:,}", small["memory"] / 2**20, "MiB"),
            FLAT,
            at_most=True,
        ),
    ]


async def measured(env: Environment, count: int) -> dict[str, float]:
    """Events a second of the consumer and of a build, and the most memory that the build's process took."""
    prefix = await new_topics(env)
    began = time.perf_counter()
    await fill(env, prefix, history(count))
    print(
        f"projections: {count:,} events in the log after {time.perf_counter() - began:.0f} s", file=sys.stderr
    )
    client = connect(env.mongo, app_name="bench")
    db = database(client, prefix.rstrip("."))
    try:
        async with serving(env, prefix):
            drained = await until(count, db["inbox"].estimated_document_count)
        # Another process, so that its memory is that of the build alone.
        await ask_for_a_build(db)
        async with serving(env, prefix) as child:
            began = time.perf_counter()

            async def done() -> int:
                job = await db["jobs"].find_one({"kind": "projection_build"})
                if job is None:
                    return 0
                assert job["state"] != "failed", job["detail"]
                return int((job["cursor"] or {}).get("phase") == "overlap" or job["state"] == "succeeded")

            await timed_until(done, 1, began, seconds=60 + count / SLOWEST)
            job = await db["jobs"].find_one({"kind": "projection_build"})
            assert job is not None
            reading = (job["cursor"]["swapped_at"] - job["cursor"]["begun_at"]).total_seconds()
            memory = peak_bytes(child.pid)
    finally:
        await client.drop_database(prefix.rstrip("."))
        client.close()
    return {"drain": drained, "build": count / reading, "memory": float(memory)}


async def until(count: int, read: Any) -> float:
    """Events a second from the first that is seen to the last."""
    await timed_until(read, 1, time.perf_counter())
    first, began = await read(), time.perf_counter()
    seconds = await timed_until(read, count, began, seconds=60 + count / SLOWEST)
    return float((count - first) / seconds)


@asynccontextmanager
async def serving(env: Environment, prefix: str) -> Any:
    variables = {
        **env.settings(prefix),
        "SANGATHAN_CONSUMER_GROUP": "analytics",
        "SANGATHAN_PROJECTION_OVERLAP_SECONDS": "0",
    }
    async with process(env, "analytics", "-m", "services.analytics", variables=variables) as child:
        yield child


async def ask_for_a_build(db: Database) -> None:
    """As an upgrade would: every projection is live in an earlier version."""
    earlier = {f"live.{name}.version": 0 for name in NAMES}
    await db[COLLECTION].update_one({"_id": POINTER}, {"$set": earlier})


def history(count: int) -> Iterator[Message]:
    """The tree, then people who join, get a seat, and of whom some move: `count` events."""
    clock, rng, made = SystemClock(), random.Random(count), 0
    tree = list(dict.fromkeys(code for unit in UNITS for code in lineage(unit)))

    def said(event: Event, sequence: int) -> Message:
        return encode(Envelope(new_id(), sequence, clock.now(), "bench", TRACE, event))

    for code in tree[:count]:
        target = 0.4 if code == "BR" else None
        yield said(UnitUpserted(unit=code, level=LEVELS[code.count("-")], women_target=target), 1)
        made += 1
    while made < count:
        id_, unit = new_id(), rng.choice(UNITS)
        gender = rng.choice([Gender.FEMALE, Gender.MALE, Gender.UNDISCLOSED])
        story: list[tuple[Event, int]] = [
            (
                MemberJoined(member_id=id_, unit=unit, gender=gender, language="hi", joined_at=clock.now()),
                1,
            ),
            (
                GroupMemberAssigned(
                    member_id=id_, group_id=new_id(), unit=unit, kind="general", ordinal=1, invite_ready=True
                ),
                1,
            ),
        ]
        if rng.random() < 0.2:
            story.append((MemberMoved(member_id=id_, from_unit=unit, unit=rng.choice(UNITS)), 2))
        for event, sequence in story[: count - made]:
            yield said(event, sequence)
            made += 1
