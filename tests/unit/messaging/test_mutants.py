"""Bugs injected into messaging on purpose: the state machine must find each of them, or it guards nothing.

The same examples find nothing in the unchanged code (test_machine.py, the heavy one).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from services.shared import loops
from services.shared.database import Lease, transact
from services.shared.faults import FaultFamily
from services.shared.messaging import (
    Applier,
    Consumer,
    Fuse,
    Inbox,
    Outbox,
    Record,
    Relay,
    UnitOfWork,
    decode,
)
from services.shared.messaging.consuming import applier
from services.shared.messaging.publishing.outbox import message_of
from tests.fakes.kafka import MemoryConsumer
from tests.unit.messaging.test_machine import PROFILE, MessagingMachine

Patch = pytest.MonkeyPatch
APPLY = Applier.apply


async def _commit(self: Applier, records: Sequence[Record]) -> None:
    # The consumer whose partitions the applier checks.
    consumer: Consumer = self._assignment.__self__  # type: ignore[union-attr]
    await consumer.commit({r.partition: r.offset + 1 for r in records})


def commit_before_effect(patch: Patch) -> None:
    async def apply(self: Applier, records: Sequence[Record]) -> None:
        await _commit(self, records)
        await APPLY(self, records)

    patch.setattr(Applier, "apply", apply)


def commit_before_dead_letter(patch: Patch) -> None:
    def healthy(record: Record) -> bool:
        try:
            decode(record)
        except Exception:
            return False
        return True

    async def apply(self: Applier, records: Sequence[Record]) -> None:
        await APPLY(self, [r for r in records if healthy(r)])
        await _commit(self, records)
        await APPLY(self, [r for r in records if not healthy(r)])

    patch.setattr(Applier, "apply", apply)


def delete_before_ack(patch: Patch) -> None:
    async def publish_batch(self: Relay) -> int:
        if not await self._lease.hold():
            return 0
        rows = await self._next_rows()
        if rows:
            await self._outbox.rows.delete_many({"_id": {"$in": [row["_id"] for row in rows]}})
            self._producer = self._producer or await self._broker.producer()
            await self._producer.publish([message_of(row) for row in rows])
        return len(rows)

    patch.setattr(Relay, "publish_batch", publish_batch)


def failed_sub_batch_forgotten(patch: Patch) -> None:
    async def together(runs: Sequence[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*runs, return_exceptions=True)

    patch.setattr(loops, "run_together", together)


def no_inbox(patch: Patch) -> None:
    async def seen(*_: Any) -> set[str]:
        return set()

    async def add(*_: Any) -> None: ...

    patch.setattr(Inbox, "seen", seen)
    patch.setattr(Inbox, "add", add)


def lease_ignored(patch: Patch) -> None:
    """Loses and doubles no effect, since the inbox holds; found because a relay reads an outbox without the
    lease."""

    async def hold(self: Lease) -> bool:
        return True

    patch.setattr(Lease, "hold", hold)


def published_by_id_alone(patch: Patch) -> None:
    async def next_rows(self: Relay) -> list[Any]:
        return await self._outbox.rows.find().sort("_id", 1).limit(self._max_batch).to_list(None)

    patch.setattr(Relay, "_next_rows", next_rows)


def fuse_in_memory(patch: Patch) -> None:
    async def trip(self: Fuse) -> None:
        self.open = True

    patch.setattr(Fuse, "trip", trip)


def one_wave(patch: Patch) -> None:
    def waves(events: Sequence[Any]) -> list[dict[Any, list[Any]]]:
        by_type: dict[Any, list[Any]] = {}
        for event in events:
            by_type.setdefault(type(event.data), []).append(event)
        return [by_type]

    patch.setattr(applier, "waves", waves)


def staged_after_the_commit(patch: Patch) -> None:
    async def dual_write(self: Outbox, body: Callable[[UnitOfWork], Any]) -> Any:
        async def run(session: Any) -> tuple[UnitOfWork, Any]:
            work = UnitOfWork(session, self.clock)
            return work, await body(work)

        work, result = await transact(self._client, run)
        if work.staged:
            await self.rows.insert_many(work.staged)
        return result

    patch.setattr(Outbox, "transact", dual_write)


def not_rewound(patch: Patch) -> None:
    patch.setattr(MemoryConsumer, "rewind", lambda *_: None)


def transient_as_permanent(patch: Patch) -> None:
    patch.setattr(applier, "classify", lambda _: FaultFamily.PERMANENT)


MUTANTS: dict[Callable[[Patch], None], str] = {
    commit_before_effect: "lost|poison without a letter",
    commit_before_dead_letter: "poison without a letter",
    delete_before_ack: "sent out of order or not at all|lost|a letter is missing",
    failed_sub_batch_forgotten: "lost|poison without a letter",
    no_inbox: "an effect was doubled",
    lease_ignored: "reads the outbox without the lease",
    published_by_id_alone: "out of order|applied after a newer event",
    fuse_in_memory: "started with an open fuse, and consumes",
    one_wave: "out of order|applied after a newer event",
    staged_after_the_commit: "lost|from nowhere|sent out of order or not at all",
    not_rewound: "lost|poison without a letter|does not come to rest",
    transient_as_permanent: "a healthy event was dead-lettered",
}


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_machine_finds(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError) as found:
        run_state_machine_as_test(MessagingMachine, settings=PROFILE)
    assert re.search(MUTANTS[mutant], str(found.value)), found.value
