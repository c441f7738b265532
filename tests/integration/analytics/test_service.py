"""The whole service on a real broker: events go in at the topics, figures come out."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from infra.local.keys import Keys
from services.analytics.app import build
from services.analytics.settings import AnalyticsSettings
from services.shared.clock import ManualClock, SystemClock
from services.shared.contracts.vocabulary import Gender
from tests.fixtures.apps import base_settings, running
from tests.integration.analytics.test_api import member, unit


async def test_events_in_figures_out(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    base = base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    settings = AnalyticsSettings(**base, gauges_seconds=0.2)
    people = [member("BR-A", Gender.FEMALE) for _ in range(30)]
    async with running(build, settings, keys=keys, admin_scopes=["analytics:read"]) as analytics:

        async def overview() -> dict[str, Any]:
            body: dict[str, Any] = (await analytics.http.get("/v1/overview")).json()
            return body

        async def counted() -> bool:
            return bool((await overview())["members"]["total"] >= len(people))

        await analytics.publish(unit("BR"), *people, *people)
        await analytics.until(counted)
        await asyncio.sleep(0.5)  # what would count twice has its time to do so
        assert (await overview())["members"]["total"] == len(people)
        assert (await analytics.http.get("/readyz")).status_code == 200
        metrics = (await analytics.http.get("/metrics")).text
        assert 'sangathan_women_share_ratio{unit="BR"} 1.0' in metrics
        assert 'sangathan_consumer_events_total{outcome="duplicate",type="any"} 30.0' in metrics


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_process_with_a_wrong_clock_applies_the_events_of_the_others(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys, minutes: int
) -> None:
    """Its own clock is behind or ahead by more than an event may be ahead of its reader."""
    settings = AnalyticsSettings(**base_settings(mongo_uri, kafka_bootstrap, database_name, keys))
    clock = ManualClock(SystemClock().now() + timedelta(minutes=minutes))
    wrong = partial(build, clock=clock)
    async with running(wrong, settings, keys=keys, admin_scopes=["analytics:read"]) as analytics:

        async def counted() -> bool:
            return await analytics.runtime.database["inbox"].count_documents({}) == 4

        people = [member("BR-A", Gender.FEMALE).data for _ in range(3)]
        await analytics.publish(unit("BR").data, *people)  # at the time of this machine
        await analytics.until(counted, 20)
        assert await analytics.runtime.database["dead_letters"].count_documents({}) == 0
