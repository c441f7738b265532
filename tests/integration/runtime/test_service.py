from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Sequence
from typing import Any

import pytest
import structlog
import uvicorn
from pymongo.errors import OperationFailure
from uvicorn.lifespan.on import LifespanOn

from infra.local.keys import Keys
from services.shared.clock import SystemClock
from services.shared.config.settings import ServiceSettings
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberLeft
from services.shared.database import Database, Migration
from services.shared.ids import new_id
from services.shared.jobs import JobKind
from services.shared.messaging import Partition, Record, UnitOfWork, encode
from services.shared.observability.logs import configure_logs
from services.shared.runtime import Feature, Runtime, Service
from tests.fixtures.apps import TRACEPARENT, base_settings


async def nothing(*_: object) -> None: ...


async def test_a_stop_meets_its_deadline_although_a_step_and_a_loop_hang(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    settings = ServiceSettings(
        service="test", stop_seconds=1, **base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    )
    runtime = Runtime(settings)
    closed: list[str] = []

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    async def fail() -> None:
        raise RuntimeError("a hook that fails")

    async def close() -> None:
        closed.append("closed")

    feature = Feature(loops={"hangs": hang}, on_stop=[fail, hang], on_close=[fail, close])
    app = Service(runtime, [feature], description="").app
    loop = asyncio.get_running_loop()
    async with app.router.lifespan_context(app):
        began = loop.time()
    assert loop.time() - began < 4
    assert closed == ["closed"]


async def test_what_two_features_declare_by_one_name_is_refused(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    settings = ServiceSettings(
        service="test", **base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    )
    kind = JobKind("letters", nothing)  # type: ignore[arg-type]
    for features, what in (
        ([Feature(loops={"relay": nothing})], "loop declared twice: relay"),
        ([Feature(loops={"a": nothing}), Feature(loops={"a": nothing})], "loop declared twice: a"),
        ([Feature(jobs=[kind]), Feature(jobs=[kind])], "job kind declared twice: letters"),
    ):
        runtime = Runtime(settings)
        with pytest.raises(ValueError, match=what):
            Service(runtime, features, description="")
        runtime.close()


async def test_a_consumer_group_of_another_name_keeps_the_services_dead_letter_topic(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    base = base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    for group, expected in (("", "test"), ("test-anew", "test-anew")):
        runtime = Runtime(ServiceSettings(service="test", consumer_group=group, **base))
        service = Service(runtime, [Feature(subscriptions={MemberLeft: nothing})], description="")
        assert service.consumer is not None
        assert service.consumer.applier.group == expected
        assert runtime.dead_letters.topic == "test.dlq"
        runtime.close()


async def test_a_failed_start_is_logged_without_quoted_data(
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

    feature = Feature(migrations=[Migration("test-0001", "refused", refused)])
    app = Service(runtime, [feature], description="").app
    lifespan = LifespanOn(uvicorn.Config(app, log_config=None))
    try:
        await lifespan.startup()
    finally:
        root.handlers[:], root.level, logging.raiseExceptions = before
        structlog.reset_defaults()
        runtime.close()
    assert lifespan.should_exit
    assert "service.start_failed" in log.getvalue()
    assert '"type":"OperationFailure","frames"' in log.getvalue()
    assert '"code":"DuplicateKey"' in log.getvalue()
    assert "Sunita" not in log.getvalue()


async def test_two_features_that_subscribe_to_one_event_get_it_in_list_order(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    heard: list[str] = []

    def hears(name: str) -> Feature:
        async def handle(events: Sequence[Envelope[Any]], _: UnitOfWork) -> None:
            heard.extend(f"{name} {event.subject}" for event in events)

        return Feature(subscriptions={MemberLeft: handle})

    settings = ServiceSettings(
        service="test", **base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    )
    service = Service(Runtime(settings), [hears("first"), hears("second")], description="")
    assert service.consumer is not None
    await service.migrate()
    event = Envelope(
        new_id(), 1, SystemClock().now(), "c", TRACEPARENT, MemberLeft(member_id=new_id(), unit="BR")
    )
    message = encode(event)
    record = Record(Partition(message.topic, 0), 0, message.key, message.value, message.headers, 0)
    await service.consumer.applier.apply([record])
    assert heard == [f"first {event.subject}", f"second {event.subject}"]
    await service.runtime.client.drop_database(database_name)
    service.runtime.close()


async def test_two_migrations_of_one_id_are_refused_when_the_service_is_composed(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys
) -> None:
    settings = ServiceSettings(
        service="test", **base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    )
    twice = [Feature(migrations=[Migration("test-0001", "same", nothing)])] * 2
    with pytest.raises(ValueError, match="test-0001"):
        Service(Runtime(settings), twice, description="")
