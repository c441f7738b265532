"""Analytics made anew from the log, and taught by snapshots after a loss: the figures are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from infra.local.keys import Keys
from services.analytics.app import build
from services.analytics.figures.schemas import Metric
from services.analytics.recovery.rebuild_plan import plan
from services.analytics.settings import AnalyticsSettings
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import UnitUpserted
from services.shared.ids import new_id
from tests.fixtures.apps import Running, base_settings, make_topics, started
from tests.fixtures.rebuilding import Anew, begin_at_the_end, databases
from tests.unit.analytics.streams import BEGIN, Stream, envelope, snapshots, streams, units

pytestmark = pytest.mark.heavy

TOPICS = ["sangathan.groups", "sangathan.members", "sangathan.notifications"]
TREE = units("BR")


@pytest.fixture
def settings(mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys) -> AnalyticsSettings:
    return AnalyticsSettings(**base_settings(mongo_uri, kafka_bootstrap, database_name, keys))


def history(size: int = 60) -> list[Envelope[Any]]:
    """Joins, moves, leaves, groups, placements and notifications, each subject's in order."""
    drawn: list[Stream] = []

    @given(streams(TREE))
    @hypothesis_settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    def draw(stream: Stream) -> None:
        drawn.append(stream)

    draw()
    facts = [fact for stream in drawn for fact in stream.facts]
    assert len(facts) >= size
    announced = [envelope(UnitUpserted(unit=u, level=_level(u)), 1) for u in TREE]
    return [*announced, *facts]


def _level(unit: str) -> str:
    return ("state", "district", "block", "booth")[unit.count("-")]


async def figures(analytics: Running, *, days: bool = True) -> dict[str, Any]:
    """All that can be asked, once nothing is left to be worked out."""
    unsettled = analytics.runtime.database["coverage.0.unsettled"]

    async def settled() -> bool:
        return await unsettled.find_one({}) is None

    await analytics.until(settled)
    span = {"from": str((BEGIN - timedelta(days=10)).date()), "to": str((BEGIN + timedelta(days=10)).date())}
    asked: list[tuple[str, dict[str, str]]] = [("/v1/overview", {"unit": unit}) for unit in TREE]
    asked += [("/v1/coverage", {"unit": "BR", "level": level}) for level in ("district", "block", "booth")]
    if days:
        asked += [
            ("/v1/timeseries", {"metric": m.value, "unit": unit, **span}) for m in Metric for unit in TREE
        ]
    answers = {}
    for path, query in asked:
        answer = await analytics.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        body.pop("as_of", None)
        answers[f"{path} {sorted(query.items())}"] = body
    return answers


async def learnt(analytics: Running, events: Sequence[Envelope[Any]]) -> None:
    """Until all of these are applied, and second copies of them have had their time."""
    ids = list({event.id for event in events})

    async def applied() -> bool:
        return await analytics.runtime.database["inbox"].count_documents({"_id": {"$in": ids}}) == len(ids)

    await analytics.until(applied)
    await asyncio.sleep(1)


def started_on(settings: AnalyticsSettings, keys: Keys) -> Any:
    return started(build, settings, keys=keys, admin_scopes=["analytics:read"])


async def test_a_rebuild_gives_the_same_figures_while_the_service_runs(
    settings: AnalyticsSettings, keys: Keys
) -> None:
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings):
        async with started_on(settings, keys) as analytics:
            events = history()
            await analytics.publish(*events, *events[:50])
            await learnt(analytics, events)
            live = await figures(analytics)
            assert await anew.run()
        async with started_on(anew.settings, keys) as rebuilt:
            assert await figures(rebuilt) == live
            again = [replace(e, id=new_id()) for e in events]
            await rebuilt.publish(*again)
            await learnt(rebuilt, again)
            assert await figures(rebuilt) == live


async def test_a_loss_is_made_good_by_snapshots_and_who_lost_nothing_ignores_them(
    settings: AnalyticsSettings, keys: Keys
) -> None:
    await make_topics(settings)
    lost = settings.model_copy(
        update={"mongo_database": f"{settings.database}_lost", "consumer_group": "analytics-lost"}
    )
    async with databases(settings):
        async with started_on(settings, keys) as analytics:
            events = history()
            await analytics.publish(*events)
            await learnt(analytics, events)
            live = await figures(analytics)
            await begin_at_the_end(lost, TOPICS)
            again = snapshots(events)
            await analytics.publish(*again, *again)
            await learnt(analytics, again)
            assert await figures(analytics) == live
        async with started_on(lost, keys) as found:
            await learnt(found, again)
            now = {asked: answer for asked, answer in live.items() if not asked.startswith("/v1/timeseries")}
            assert await figures(found, days=False) == now


async def test_an_interrupted_rebuild_goes_on(settings: AnalyticsSettings, keys: Keys) -> None:
    await make_topics(settings)
    few = settings.model_copy(update={"consumer_max_batch": 5})
    anew = Anew(few, build, plan)
    async with databases(settings) as named:
        async with started_on(settings, keys) as analytics:
            events = history()
            await analytics.publish(*events)
            await learnt(analytics, events)
            live = await figures(analytics)
            inbox = named(anew.settings.database)["inbox"]
            running = asyncio.create_task(anew.run())

            async def begun() -> bool:
                return await inbox.count_documents({}) > 20

            await analytics.until(begun)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert 20 < await inbox.count_documents({}) < len(events), "interrupted in the middle"
            assert await anew.run(resume=True)
            assert await inbox.count_documents({}) == len(events)
        async with started_on(anew.settings, keys) as rebuilt:
            assert await figures(rebuilt) == live
