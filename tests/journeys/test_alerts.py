"""Five faults on the running system: the committed alert fires in a real Alertmanager, and resolves.

`make alerts`. tests/fixtures/scaled.py shortens the times; expressions, thresholds and routes are the
committed ones.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from infra.local.binaries import find_alertmanager, find_prometheus
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import people
from infra.local.errors import LocalError
from services.shared.messaging import KafkaBroker
from tests.fixtures.alerting import Watch, alertmanager, watched
from tests.fixtures.poison import changed
from tests.journeys.test_operations import broken
from tests.journeys.test_poison_and_stop import load_tree
from tests.unit.test_rules import RULES

POISONED = 60
"""More than the 50 in a row that would open a fuse, if they were ours."""
garbage = changed(value=b"{")
CONSUMERS = ("groups", "notifications", "analytics")
crowd = people(50 + POISONED, ["BR-GAYA"], 11)


def there_are_programs() -> bool:
    try:
        find_prometheus()
        find_alertmanager()
    except LocalError:
        return False
    return True


pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not there_are_programs(),
        reason="NOT TESTED: that alerts fire and resolve"
        " (Debian: apt-get install prometheus prometheus-alertmanager)",
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watch]:
    async with watched(tmp_path_factory.mktemp("alerts")) as running:
        await load_tree(running.api)
        yield running


async def join(watch: Watch) -> None:
    """Register one more member."""
    accepted = await Arrivals(watch.api).rush(islice(crowd, 1), 1, lambda: None)
    assert len(accepted) == 1


async def test_a_welcome_held_for_want_of_an_invite_link(watch: Watch) -> None:
    await join(watch)
    await watch.fires("WelcomesHeld", severity="ticket", reason="no_invite")
    assert await InviteLinks(watch.api).give() == 1
    await watch.resolves("WelcomesHeld")


async def test_a_frozen_broker(watch: Watch) -> None:
    watch.stack.processes["kafka"].signal(signal.SIGSTOP)
    try:
        await join(watch)
        await watch.fires("OutboxStuck", severity="page", service="members")
    finally:
        watch.stack.processes["kafka"].signal(signal.SIGCONT)
    await watch.resolves("OutboxStuck", service="members")


async def test_transactions_that_mongodb_aborts(watch: Watch) -> None:
    """Groups retries its batch for as long as the fault lasts."""
    data = {
        "failCommands": ["commitTransaction"],
        "appName": "sangathan-groups",
        "errorCode": 112,  # WriteConflict
        "errorLabels": ["TransientTransactionError"],
    }
    fault = {"configureFailPoint": "failCommand", "data": data}
    async with AsyncMongoClient[dict[str, Any]](watch.stack.mongo) as mongo:
        await mongo.admin.command(fault | {"mode": "alwaysOn"})
        try:
            await join(watch)
            await watch.fires("ConsumerStalled", severity="page", service="groups")
        finally:
            await mongo.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    await watch.resolves("ConsumerStalled", service="groups")


async def test_records_that_nobody_can_apply(watch: Watch) -> None:
    producer = await KafkaBroker(watch.stack.kafka, client_id="test").producer()
    await producer.publish([garbage() for _ in range(POISONED)])
    await producer.stop()
    # Concurrently: DeadLettersArriving fires only for a short time.
    await asyncio.gather(
        watch.fires("DeadLettersArriving", severity="ticket", service="groups", reason="invalid_data"),
        watch.fires("DeadLettersUnsettled", severity="ticket", service="groups"),
        *(watch.fires("ForeignFlood", severity="page", service=service) for service in CONSUMERS),
    )
    for service in CONSUMERS:
        discard = {"reason": "a test"}
        answer = await watch.api.send("POST", service, "/v1/ops/dead-letters/discard", json=discard)
        assert answer.status_code == 200, answer.text
    for alert in ("ForeignFlood", "DeadLettersArriving", "DeadLettersUnsettled"):
        await watch.resolves(alert)


async def test_a_service_that_fails_on_every_event(watch: Watch) -> None:
    mend = await broken(watch.stack)
    accepted = await Arrivals(watch.api).rush(islice(crowd, POISONED), 8, lambda: None)
    assert len(accepted) == POISONED
    await watch.fires("FuseOpen", severity="page", service="groups")
    await mend()
    for path in ("fuse/reset", "dead-letters/replay"):
        answer = await watch.api.send("POST", "groups", f"/v1/ops/{path}")
        assert answer.status_code == 200, answer.text
    for alert in ("FuseOpen", "DeadLettersArriving", "DeadLettersUnsettled"):
        await watch.resolves(alert)
    await InviteLinks(watch.api).give()


async def test_a_service_that_is_gone(watch: Watch) -> None:
    await watch.stack.processes["analytics"].stop()
    await watch.fires("ServiceDown", severity="page", service="analytics")
    await watch.stack.start_again("analytics", {})
    await watch.resolves("ServiceDown", service="analytics")


async def test_a_recovered_system_has_no_alert(watch: Watch) -> None:
    await join(watch)
    await asyncio.sleep(10)
    assert [alert["labels"] for alert in await watch.alertmanager.alerts()] == []


async def test_every_series_of_the_rules_exists_in_a_healthy_system(watch: Watch) -> None:
    """An alert on a series that does not exist is silent for ever."""
    names = set().union(*(re.findall(r"(?<!:)\bsangathan_\w+\b(?!:)", rule["expr"]) for rule in RULES))
    absent = [name for name in names if not await watch.prometheus.query(f"last_over_time({name}[10m])")]
    assert absent == []


async def test_an_open_fuse_inhibits_the_alerts_it_causes(tmp_path: Path) -> None:
    async with alertmanager(tmp_path) as (manager, messages):
        stalled = {"alertname": "ConsumerStalled", "severity": "page"}
        fuse = {"alertname": "FuseOpen", "severity": "page", "service": "groups"}
        await manager.tell(fuse, stalled | {"service": "groups"}, stalled | {"service": "analytics"})
        for _ in range(100):
            if len(messages) >= 2:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        assert {(t.labels["alertname"], t.labels["service"]) for t in messages} == {
            ("FuseOpen", "groups"),
            ("ConsumerStalled", "analytics"),
        }
        states = {
            (a["labels"]["alertname"], a["labels"]["service"]): a["status"]["state"]
            for a in await manager.alerts()
        }
        assert states["ConsumerStalled", "groups"] == "suppressed"
