"""Gauges behind the alerts: each shows the truth when the thing it measures fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from services.shared.database import connect
from services.shared.messaging import PUBLISH_SECONDS, Message, Refusal
from services.shared.messaging.metrics import DEATHS, FOREIGN
from services.shared.runtime.slow_gauges import SlowGauges, oplog
from tests.fixtures.poison import POISON
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone


def of(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_the_outbox_age_grows_while_publishing_hangs(bench: Bench) -> None:
    class Frozen:
        async def publish(
            self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
        ) -> dict[int, Refusal]:
            await asyncio.sleep(60)
            return {}

        async def probe(self) -> None: ...

        async def stop(self) -> None:
            pass

    relay = bench.relay()
    relay._producer = Frozen()
    _, publishing = bench.run(relay)
    await relay.gauge()
    assert bench.metrics.relay.outbox_age._value.get() == 0
    await bench.stage((joined(), 1))
    await asyncio.sleep(0.3)
    stop = asyncio.Event()
    watching = asyncio.create_task(relay.watch(stop))

    async def old() -> bool:
        return bool(
            bench.metrics.relay.outbox_age._value.get() > 1
            and bench.metrics.relay.outbox_rows._value.get() == 1
        )

    await bench.until(old, 10)
    stop.set()
    await watching
    publishing.cancel()


async def test_partitions_without_a_reader_show_in_gauges(bench: Bench) -> None:
    metrics = bench.metrics.consumer
    await bench.publish((joined(), 1))
    consumer = bench.consumer()
    stop, task = bench.run(consumer)
    await bench.effects_are(1)
    await consumer._look()
    assert (metrics.assigned._value.get(), metrics.partitions._value.get()) == (3, 3)
    stop.set()
    await task
    assert (metrics.assigned._value.get(), metrics.partitions._value.get()) == (0, 3)


def test_every_reason_of_a_dead_letter_is_a_series_from_the_start() -> None:
    assert {(reason, FOREIGN) for reason, _ in POISON} <= set(DEATHS)


@on_the_real_things_alone
async def test_the_oplog_window_is_absent_where_it_may_not_be_read(bench: Bench, mongo_uri: str) -> None:
    client, registry = connect(mongo_uri, app_name="slow_gauges-test"), CollectorRegistry()
    name, labels = "sangathan_mongo_oplog_window_seconds", {"replica_set": "rs0"}
    gauges = SlowGauges([oplog(client, registry)])
    # Unauthorized, which only a server with users returns by itself.
    data = {"failCommands": ["collStats"], "appName": "slow_gauges-test", "errorCode": 13}
    fail = {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data}
    await bench.client.admin.command(fail)
    try:
        await gauges._read_all()
        assert of(registry, name, **labels) is None
        await gauges._read_all()
        seconds = of(registry, name, **labels)
        assert seconds is not None
        assert seconds > 0
    finally:
        client.close()


@pytest.mark.parametrize("code", [11600, 1, 10334])
@on_the_real_things_alone
async def test_a_gauge_retries_transient_faults_and_raises_others(
    bench: Bench, mongo_uri: str, code: int
) -> None:
    """11600 is InterruptedAtShutdown, 1 InternalError (on no list), 10334 BSONObjectTooLarge."""
    client = connect(mongo_uri, app_name=f"slow_gauges-{code}")
    gauges = SlowGauges([oplog(client, CollectorRegistry())])
    data = {"failCommands": ["collStats"], "appName": f"slow_gauges-{code}", "errorCode": code}
    await bench.client.admin.command(
        {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data}
    )
    try:
        if code == 10334:
            with pytest.raises(Exception, match="failpoint"):
                await gauges._read_all()
        else:
            await gauges._read_all()
    finally:
        client.close()
