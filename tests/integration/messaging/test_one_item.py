"""One bad item never holds the others, and one strike is not enough: server errors and slow transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from services.shared.contracts.base import Envelope
from services.shared.database import transact
from services.shared.ids import new_id
from services.shared.messaging import UnitOfWork
from services.shared.messaging.consuming import applier
from services.shared.messaging.publishing import outbox
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone

pytestmark = on_the_real_things_alone


@asynccontextmanager
async def failing(bench: Bench, code: int, times: int) -> AsyncIterator[None]:
    """The server answers the next writes of this test's effects with an error."""
    namespace = f"{bench.db.name}.effects"
    data = {"failCommands": ["insert"], "errorCode": code, "namespace": namespace}
    await bench.client.admin.command(
        {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
    )
    try:
        yield
    finally:
        await bench.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("code", "times"),
    [(11601, 5), (202, 5), (365, 5), (290, 5), (13, 5), (14031, 5), (2, 2), (424242, 2)],
    ids=["killOp", "network_time", "busy", "lifetime", "no_right", "full_disk", "bad_value", "unheard_of"],
)
async def test_a_server_error_that_passes_buries_no_good_event(bench: Bench, code: int, times: int) -> None:
    await bench.publish(*((joined(), 1) for _ in range(5)))
    records = await bench.read(bench.topic, 5)
    async with failing(bench, code, times):
        await bench.applier().apply(records)
    assert await bench.effects.count_documents({}) == 5
    assert await bench.dead_letters.letters.count_documents({}) == 0


async def test_an_unknown_error_that_stays_is_a_letter_after_three_tries(bench: Bench) -> None:
    await bench.publish((joined(), 1))
    records = await bench.read(bench.topic, 1)
    async with failing(bench, 424242, 100):
        await bench.applier().apply(records)
    [letter] = await bench.dead_letters.letters.find().to_list(None)
    assert (letter["reason"], letter["attempts"]) == ("handler_error", 3)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "transact", partial(transact, seconds=1.0))


@pytest.mark.usefixtures("impatient")
async def test_an_event_whose_transaction_alone_is_too_slow_holds_no_other(bench: Bench) -> None:
    slow = {new_id(), new_id()}

    async def handler(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        if any(event.subject in slow for event in events):
            await asyncio.sleep(30)
        await bench.record_effects(events, work)

    others = [new_id() for _ in range(14)]
    await bench.publish(*((joined(member), 1) for member in [*others[:7], *slow, *others[7:]]))
    bench.run(bench.consumer(handler))
    await bench.effects_are(14, 30)

    async def buried() -> bool:
        return await bench.dead_letters.letters.count_documents({}) == 2

    await bench.until(buried, 30)
    letters = await bench.dead_letters.letters.find().to_list(None)
    assert {(x["reason"], x["headers"]["ce_subject"] in slow) for x in letters} == {("too_slow", True)}
    assert all(letter["value"] for letter in letters), "a replay can apply it"
    await bench.publish((joined(), 1))
    await bench.effects_are(15, 10)


@pytest.mark.usefixtures("impatient")
async def test_a_slow_database_buries_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transaction is too slow here, the probe's too: then it is not the event's fault."""
    monkeypatch.setattr(applier, "PROBE_SECONDS", 0.2)
    await bench.publish((joined(), 1))
    applier_ = bench.applier()
    records = await bench.read(bench.topic, 1)
    data = {
        "failCommands": ["commitTransaction", "find"],
        "blockConnection": True,
        "blockTimeMS": 1500,
        "appName": "tests",
    }
    await bench.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    applying = asyncio.create_task(applier_.apply(records))
    try:
        await asyncio.sleep(7)
        assert bench.metrics.consumer.retries.labels("transient")._value.get() >= 3
        assert not applying.done()
    finally:
        await bench.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    # The server keeps the cut transactions, and what they locked, for some seconds.
    await bench.client.admin.command({"killAllSessions": []})
    await asyncio.wait_for(applying, 20)
    assert await bench.effects.count_documents({}) == 1
    assert await bench.dead_letters.letters.count_documents({}) == 0
