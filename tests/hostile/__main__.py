"""`make hostile`: attack the running system while honest members join; ARGS="--quick" sends a tenth.

Exits 1 when an honest member is not placed and welcomed in time, a welcome goes to somebody who did not
consent, a fuse opens, `/livez` is slow, a process grows without bound, or a dead letter shows a name. A full
run writes the figures into docs/hostile.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from rich.console import Console
from rich.table import Table

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import Person, people
from infra.local.stack import LocalStack
from services.shared.messaging import KafkaBroker, Message
from tests.bench.report import write_table
from tests.chaos.ledger import Ledger
from tests.hostile.attacks import ATTACKS, MEMBERS, PERSON, UNIT, Attack, forged, joined
from tests.hostile.observe import Observed, all_served, observing

CONSUMERS = ("groups", "notifications", "analytics")
TREE = f"code,level,name_en,name_hi\nBR,state,Bihar,बिहार\n{UNIT},district,Gaya,गया\n"
PER_SECOND = 10
SERVED_SECONDS = 30.0
"""The longest that an honest member may wait after the last record of an attack."""
LIVEZ_SECONDS = 1.0
GROWN_BYTES = 96 * 1024 * 1024
HEAD = ("what the neighbour does", "records", "honest members served", "after s", "/livez ms", "grown MB", "")


@dataclass(frozen=True)
class Row:
    attack: str
    records: int
    accepted: int
    unserved: int
    seconds: float
    observed: Observed
    fault: str

    @property
    def cells(self) -> tuple[str, ...]:
        served = f"{self.accepted - self.unserved} of {self.accepted}"
        memory = f"{self.observed.grown / 1024**2:.0f}"
        livez = f"{self.observed.livez * 1000:.0f}"
        told = self.fault or "held"
        return self.attack, f"{self.records:,}", served, f"{self.seconds:.1f}", livez, memory, told


@dataclass
class Siege:
    stack: LocalStack
    api: Api
    ledger: Ledger
    crowd: Iterator[Person]
    joins: int

    async def calm(self) -> Row:
        return await self._row(Attack("nothing: for comparison", lambda _: Message("", b"", b"", ()), 0), 0)

    async def suffer(self, attack: Attack, records: int) -> Row:
        return await self._row(attack, records)

    async def _row(self, attack: Attack, records: int) -> Row:
        pids = {name: self.stack.processes[name].pid for name in ("members", *CONSUMERS)}
        before = await self._letters()
        # Before anything is measured: forging keeps the event loop from asking /livez.
        forgeries = [attack.forge(n) for n in range(records)]
        async with observing(self.stack.urls, pids) as observed:
            joining = asyncio.create_task(
                Arrivals(self.api).walk(islice(self.crowd, self.joins), PER_SECOND, lambda: None)
            )
            await asyncio.sleep(0.5)
            await self._publish(forgeries)
            accepted = {each.member_id for each in await joining}
            began = time.monotonic()
            unserved = await all_served(self.ledger, accepted, SERVED_SECONDS)
            seconds = time.monotonic() - began
        fault = await self._fault(attack, records, before, observed, len(unserved))
        return Row(attack.name, records, len(accepted), len(unserved), seconds, observed, fault)

    async def _publish(self, messages: Sequence[Message]) -> None:
        producer = await KafkaBroker(self.stack.kafka, client_id="hostile").producer()
        try:
            at_once = max(1, min(50, 1_000_000 // max(map(_size, messages), default=1)))
            for at in range(0, len(messages), at_once):
                refused = await producer.publish(messages[at : at + at_once])
                assert not refused, "the broker refuses what is to be shown"
        finally:
            await producer.stop()

    async def _letters(self) -> int:
        return sum([(await self.api.get(s, "/v1/ops/dead-letters/summary"))["total"] for s in CONSUMERS])

    async def _fault(
        self, attack: Attack, records: int, before: int, observed: Observed, unserved: int
    ) -> str:
        """The promises that were broken, in words."""
        faults = [fault for service in CONSUMERS async for fault in self._faults_of(service)]
        if unserved:
            faults.append(f"{unserved} honest members were not served")
        if observed.livez > LIVEZ_SECONDS:
            faults.append("/livez was slow")
        if observed.grown > GROWN_BYTES:
            faults.append("a process grew")
        if attack.letters and records and await self._letters() == before:
            faults.append("the records left no dead letter")
        return "; ".join(faults)

    async def _faults_of(self, service: str) -> AsyncIterator[str]:
        status = await self.api.get(service, "/v1/ops/status")
        if not status["flowing"]:
            yield f"{service} stands still: {status['reasons']}"
        page = await self.api.get(service, "/v1/ops/dead-letters", limit=500)
        if any(word in str(page) for word in PERSON.split()):
            yield f"{service} shows a name in its dead letters"

    async def consent(self, count: int) -> Row:
        """Forged joins with consents come before the genuine ones, of members who gave none: the neighbour
        holds back the relay of members meanwhile."""
        silent = [{**person, "consents": []} for person in islice(self.crowd, count)]
        pids = {name: self.stack.processes[name].pid for name in ("members", *CONSUMERS)}
        async with observing(self.stack.urls, pids) as observed:
            await self._hold_back_members()
            accepted = await Arrivals(self.api).rush(silent, 8, lambda: None)
            ids = {each.member_id for each in accepted}
            await self._publish([forged(MEMBERS, "member.joined", id_, joined(id_)) for id_ in ids])
            began = time.monotonic()
            unserved = await all_served(self.ledger, ids, SERVED_SECONDS)
            seconds = time.monotonic() - began
        sent = [
            note
            async for note in self.api.pages("notifications", "/v1/notifications", state="sent")
            if note["member_id"] in ids
        ]
        fault = f"{len(sent)} welcomes without consent" if sent else ""
        name = "joins with consents that nobody gave"
        return Row(name, count, len(ids), len(unserved), seconds, observed, fault)

    async def _hold_back_members(self, seconds: float = 8.0) -> None:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(self.stack.mongo)
        try:
            leases = client["members"]["leases"]
            until = datetime.now(UTC) + timedelta(seconds=seconds)
            await leases.update_one(
                {"_id": "relay"}, {"$set": {"holder": "hostile", "expires_at": until}}, upsert=True
            )
            await asyncio.sleep(2.5)  # until the relay looks at its lease again
        finally:
            await client.close()


def _size(message: Message) -> int:
    return len(message.value) + sum(len(value or b"") for _, value in message.headers)


async def run(*, quick: bool) -> list[Row]:
    share = 10 if quick else 1
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sangathan-hostile-") as directory:
        async with (
            LocalStack(Path(directory)) as stack,
            Api(stack.urls, stack.token, connections=16) as api,
        ):
            headers = {"content-type": "text/csv"}
            tree = await api.send(
                "POST", "groups", "/v1/units/imports", content=TREE.encode(), headers=headers
            )
            assert tree.status_code == 200, tree.text
            invites = asyncio.create_task(InviteLinks(api).keep_giving())
            ledger = Ledger(stack.kafka)
            await ledger.start()
            try:
                crowd = people(100_000, [UNIT], 7)
                siege = Siege(stack, api, ledger, crowd, joins=30 if quick else 100)
                await siege.calm()  # the first members wait for the first group
                rows.append(await siege.calm())
                rows.append(await siege.consent(15 if quick else 100))
                for attack in ATTACKS:
                    rows.append(await siege.suffer(attack, max(100, attack.count // share)))
                    Console().print(" | ".join(rows[-1].cells))
            finally:
                invites.cancel()
                await ledger.stop()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records; writes no page")
    quick = parser.parse_args().quick
    rows = asyncio.run(run(quick=quick))
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*row.cells)
    Console().print(table)
    if not quick:
        write_table("hostile.md", "figures", HEAD, [row.cells for row in rows])
    return 1 if any(row.fault for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
