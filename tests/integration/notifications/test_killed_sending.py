"""Ten dispatchers are killed (-9) in the middle of sending: each recipient gets exactly one, or is listed as
unknown; never two."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.simulators import ExotelSimulator
from services.notifications.core.deliveries.applying import Applied
from services.notifications.core.updates import Delivery, Report
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from services.shared.messaging import UnitOfWork
from tests.fixtures.patience import Patience
from tests.integration.notifications.conftest import MASTER_KEYS, Bench, assigned, joined
from tests.integration.notifications.registered import register
from tests.integration.notifications.stand_ins import Peers

KILLS = 10
CHUNK = 10
CLAIM_SECONDS = 8
"""Short, so that what a dead process had claimed is soon found; an eighth of it is for what comes before the
first message is handed over."""
BATCH = 50


class Dispatchers:
    """Two processes, of which a killed one is started anew."""

    def __init__(self, environment: dict[str, str], output: Path) -> None:
        self._environment = environment
        self._output = output
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        with self._output.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.integration.notifications.sending_process",
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        self.running.append(process)

    async def kill(self) -> None:
        """The one that has run for the longest."""
        process = self.running.pop(0)
        assert process.returncode is None, self._output.read_text()[-3000:]
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def stop(self) -> None:
        while self.running:
            await self.kill()


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_ten_kills_of_a_dispatcher_lose_and_double_nothing(
    bench: Bench, peers: Peers, settings: NotificationsSettings, clock: ManualClock, tmp_path: Path
):
    await _kills(2000, KILLS, bench, peers, settings, clock, tmp_path)


@pytest.mark.timeout(200)
async def test_a_killed_dispatcher_loses_and_doubles_nothing(
    bench: Bench, peers: Peers, settings: NotificationsSettings, clock: ManualClock, tmp_path: Path
):
    await _kills(200, 1, bench, peers, settings, clock, tmp_path)


async def _kills(
    count: int,
    kills: int,
    bench: Bench,
    peers: Peers,
    settings: NotificationsSettings,
    clock: ManualClock,
    tmp_path: Path,
) -> None:
    sms = ExotelSimulator(strict=False, per_minute=None)
    async with sms:
        sms.steer(latency=0.05)
        await bench.runtime.server_clock.read()
        await register(bench.core, "welcome", channels=("sms",))
        group = peers.add_group()
        members = [peers.add_member(phone=f"+9198000{i:05d}") for i in range(count)]
        for at in range(0, count, 500):
            some = members[at : at + 500]
            await bench.deliver(*(joined(m, channels=("sms",)) for m in some))
            await bench.deliver(*(assigned(m, group, ready=True) for m in some))
        dispatchers = Dispatchers(_environment(sms, settings), tmp_path / "output")
        try:
            await dispatchers.start()
            await dispatchers.start()
            for kill in range(1, kills + 1):
                await _until_taken(sms, kill * count // (kills + 2))
                await dispatchers.kill()
                await dispatchers.start()
            rows = await _settled(bench)
        finally:
            await dispatchers.stop()
    got = Counter(taken.recipient for taken in sms.ledger)
    assert not sms.ledger.doubled
    assert max(got.values()) == 1, "nobody gets two"
    assert set(got) <= {peers.people[m].phone for m in members}
    sent = {row["member_id"] for row in rows if row["state"] == "sent"}
    unknown = {row["member_id"] for row in rows if row.get("held_for") == "outcome"}
    assert sent | unknown == set(members), Counter((row["state"], row.get("reason")) for row in rows)
    assert all(got[peers.people[m].phone or ""] == 1 for m in sent), "what counts as sent was taken"
    assert sms.ledger.count > kills * count // (kills + 2)
    # Of each killed process at most what it had just marked.
    assert len(unknown) <= kills * 2 * CHUNK
    await _called_back(bench, sms)
    rows = await bench.database["notifications"].find({"state": "sent"}).to_list(None)
    assert len(rows) == sms.ledger.count, "once the gateway tells, whoever got one counts as sent"
    print(f"{kills} kills, {count} members: {len(sent)} sent, {len(unknown)} unknown")


async def _until_taken(sms: ExotelSimulator, count: int) -> None:
    patience = Patience(60)
    while sms.ledger.count < count:
        patience.check(sms.ledger.count)
        await asyncio.sleep(0.01)


async def _called_back(bench: Bench, sms: ExotelSimulator) -> None:
    """The gateway tells of all that it took."""
    at = bench.core.clock.now()
    reports = [Report(taken.id, taken.reference, Delivery.SENT, at) for taken in sms.ledger]

    async def body(work: UnitOfWork) -> list[Applied]:
        return await bench.core.reports.apply("exotel", reports, work)

    assert all(each.record is not None for each in await bench.runtime.outbox.transact(body))


async def _settled(bench: Bench) -> list[dict[str, Any]]:
    """The notifications once each has ended or is known to be unknown."""
    notifications, patience = bench.database["notifications"], Patience(60)
    busy = {"open": True, "held_for": {"$ne": "outcome"}}
    while left := await notifications.count_documents(busy):
        patience.check(left)
        await asyncio.sleep(0.1)
    rows: list[dict[str, Any]] = await notifications.find({}).to_list(None)
    return rows


def _environment(sms: ExotelSimulator, settings: NotificationsSettings) -> dict[str, str]:
    values = {
        "MONGO_URI": settings.mongo_uri,
        "MONGO_DATABASE": settings.database,
        "KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "MASTER_KEYS": json.dumps(MASTER_KEYS),
        "MEMBERS_URL": settings.members_url,
        "GROUPS_URL": settings.groups_url,
        "SERVICE_TOKEN_FILE": str(settings.service_token_file),
        "CLAIM_SECONDS": str(CLAIM_SECONDS),
        "DISPATCH_BATCH": str(BATCH),
        "HANDOVER_CHUNK": str(CHUNK),
        "SENDER": "gateways",
        "SMS_GATEWAY": "exotel",
        "EXOTEL_URL": sms.url,
        "EXOTEL_ACCOUNT_SID": sms.account_sid,
        "EXOTEL_API_KEY": sms.key,
        "EXOTEL_API_TOKEN": sms.token,
        "EXOTEL_HEADER": "SNGTHN",
        "DLT_ENTITY_ID": "1101000000000000001",
        "SMS_PER_SECOND": "60",
    }
    return {**os.environ, **{f"SANGATHAN_{name}": value for name, value in values.items()}}
