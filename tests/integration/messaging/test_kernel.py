from __future__ import annotations

import asyncio
import io
import logging

import structlog
import uvicorn
from pymongo.errors import OperationFailure
from uvicorn.lifespan.on import LifespanOn

from infra.local.keys import Keys
from services.shared.config.settings import ServiceSettings
from services.shared.database import Database, Migration
from services.shared.observability.logs import configure_logs
from services.shared.runtime import Runtime
from tests.fixtures.apps import base_settings


async def test_a_stop_takes_no_longer_than_it_may_although_a_step_and_a_loop_hang(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    settings = ServiceSettings(
        service="test", stop_seconds=1, **base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    )
    runtime = Runtime(settings)
    closed: list[str] = []

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    async def close() -> None:
        closed.append("closed")

    runtime.loop("hangs", hang)
    app = runtime.app(description="", routers=[], migrations=(), state={}, on_stop=[hang], on_close=[close])
    loop = asyncio.get_running_loop()
    async with app.router.lifespan_context(app):
        began = loop.time()
    assert loop.time() - began < 4
    assert closed == ["closed"]


async def test_a_consumer_group_of_another_name_keeps_the_services_dead_letter_topic(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    base = base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    for group, expected in (("", "test"), ("test-anew", "test-anew")):
        runtime = Runtime(ServiceSettings(service="test", consumer_group=group, **base))
        runtime.subscribe({})
        assert runtime.consumer is not None
        assert runtime.consumer.applier.group == expected
        assert runtime.dead_letters.topic == "test.dlq"
        runtime.client.close()


async def test_why_a_service_cannot_start_is_logged_without_the_data_that_the_reason_quotes(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    settings = ServiceSettings(
        service="test", **base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    )
    runtime = Runtime(settings)
    log, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    configure_logs(service="test", instance="1", stream=log)

    async def refused(_: Database) -> None:
        said = {"codeName": "DuplicateKey", "keyValue": {"name": "Sunita Devi"}}
        raise OperationFailure("E11000 duplicate key { name: 'Sunita Devi' }", 11000, said)

    app = runtime.app(description="", routers=[], migrations=[Migration(1, "refused", refused)], state={})
    lifespan = LifespanOn(uvicorn.Config(app, log_config=None))
    try:
        await lifespan.startup()
    finally:
        root.handlers[:], root.level, logging.raiseExceptions = before
        structlog.reset_defaults()
        runtime.client.close()
    assert lifespan.should_exit
    assert "service.start_failed" in log.getvalue()
    assert '"type":"OperationFailure","frames"' in log.getvalue()
    assert '"code":"DuplicateKey"' in log.getvalue()
    assert "Sunita" not in log.getvalue()
