"""MongoDB's time as a process knows it, and how far its own clock is from it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from services.shared.clock import ManualClock, SystemClock
from services.shared.database import Client, ServerClock, connect, database, migrate
from services.shared.identity import Identity
from services.shared.jobs import MIGRATIONS, Jobs
from services.shared.jobs.claims import Claims
from services.shared.runtime.slow_gauges import clock_skew

NAME = "sangathan_clock_skew_seconds"


@pytest.fixture
def client(mongo_uri: str) -> Client:
    return connect(mongo_uri, app_name="test")


@pytest.mark.parametrize("ahead", [600.0, -600.0, 0.0])
async def test_it_is_the_servers_whatever_the_own_clock_says_or_is_set_to(client: Client, ahead: float):
    own = ManualClock(datetime.now(UTC) + timedelta(seconds=ahead))
    clock, registry = ServerClock(client, own), CollectorRegistry()
    assert clock.now() == own.now()
    await clock_skew(clock, registry)()
    assert registry.get_sample_value(NAME) == pytest.approx(ahead, abs=0.5)
    own.advance(timedelta(hours=-1))
    assert (clock.now() - datetime.now(UTC)).total_seconds() == pytest.approx(0, abs=0.5)
    client.close()


class Answering:
    """A client of a server whose clock says `theirs` when it is asked."""

    def __init__(self, *theirs: datetime) -> None:
        self._theirs = list(theirs)
        self.admin = self

    async def command(self, _: str) -> dict[str, Any]:
        return {"localTime": self._theirs.pop(0).replace(tzinfo=None)}


async def test_it_follows_a_server_whose_time_is_another_and_keeps_what_is_within_the_round_trip():
    now = datetime.now(UTC)
    server = Answering(now, now + timedelta(seconds=30))
    clock = ServerClock(cast(Client, server), SystemClock())
    assert await clock.read() == pytest.approx(0, abs=0.2)
    assert await clock.read() == pytest.approx(-30, abs=0.2)
    assert (clock.now() - now).total_seconds() == pytest.approx(30, abs=0.2)


async def test_a_job_added_by_a_process_with_a_wrong_clock_is_due_at_once(client: Client, database_name: str):
    db, anybody = database(client, database_name), Identity("user-1", frozenset(), "*")
    await migrate(db, MIGRATIONS, SystemClock())
    clocks = [ServerClock(client, ManualClock(datetime.now(UTC) + timedelta(seconds=s))) for s in (600, -600)]
    for clock in clocks:
        await clock.read()
    for adding, claiming in (clocks, clocks[::-1]):
        job = await Jobs(db, adding).add("count", {}, anybody)
        claims, claim = Claims(Jobs(db, claiming).rows, claiming, lease_seconds=10), None
        async with asyncio.timeout(2):
            while claim is None:
                claim = await claims.take(["count"])
        assert claim.job.id == job.id
        later = datetime.now(UTC) + timedelta(seconds=60)
        await Jobs(db, adding).add("later", {}, anybody, due_at=later)
        assert await claims.take(["later"]) is None
    await client.drop_database(database_name)
    client.close()
