"""Rebuild: a service's state is rebuilt from the log, in a new database with a new consumer group.

A service that makes decisions (which group, which welcome) must not make them twice. So the rebuild first
*restores* its decisions from the service's own topic. Only then does it handle the topics that the service
consumes, where just the undecided events have an effect. Nothing is published meanwhile: staged events go out
when the service starts on the new database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import PyMongoError
from rich.console import Console

from services.shared.config.settings import ServiceSettings
from services.shared.database import Database, Lease, database
from services.shared.jobs import ENDED
from services.shared.messaging import BatchConsumer, Partition, Subscriptions
from services.shared.operations.catch_up import CatchUp, CatchUpBroker
from services.shared.operations.progress import Meter
from services.shared.runtime import Runtime, Service, broker_of

LOOK_SECONDS: Final = 30.0
"""How long a dry run waits for the broker to report the end of the log."""
LEASE_SECONDS: Final = 20.0
DUMP: Final = "dump"
"""Id of the row in the collection `rebuild` which says that the database was filled from a dump, and whether
`whole`."""


class RebuildError(Exception):
    """The rebuild cannot continue; the message says why and what to do."""


def restore_group(group: str) -> str:
    """The consumer group that reads the service's own topic during a rebuild into `group`."""
    return f"{group}.restoring"


async def _nothing() -> None: ...


@dataclass(frozen=True)
class Plan:
    """A service's part of a rebuild. `restores` handles the events of its own topic and stages nothing; it is
    `{}` for a service that makes no decisions. `finish` runs after it. `summary` returns lines on what was
    rebuilt and what the log does not hold. `from_dump`: the log alone is not enough, so the rebuild needs a
    restored dump."""

    summary: Callable[[], Awaitable[Sequence[str]]]
    restores: Subscriptions
    finish: Callable[[], Awaitable[None]] = _nothing
    from_dump: bool = False


class Rebuild:
    """A rebuild. It may be interrupted at any point, because it is a consumer group with an inbox;
    `run(resume=True)` continues."""

    def __init__(
        self,
        settings: ServiceSettings,
        build: Callable[..., Service],
        plan: Callable[[Runtime], Plan],
        console: Console,
        *,
        database_name: str,
        group: str,
    ) -> None:
        """Raises: `RebuildError` when the database or the group is the one in use."""
        if database_name == settings.database or group == settings.group:
            raise RebuildError("the service uses that database or group: choose new names")
        anew = settings.model_copy(update={"mongo_database": database_name, "consumer_group": group})
        self._broker = CatchUpBroker(broker_of(anew))
        self.service = build(anew, broker=self._broker)
        self.runtime = self.service.runtime
        self._plan = plan(self.runtime)
        self._old = settings.database
        self._group = group
        self._console = console
        self._begun = self.runtime.database["rebuild"]
        self._lease = Lease(self.runtime.database, "rebuild", seconds=LEASE_SECONDS)

    async def run(self, *, resume: bool = False, accept_cut_off: bool = False) -> bool:
        """Run the rebuild. True when the service may start on the new database; False when it was only
        restored, because the service still runs.

        `accept_cut_off`: continue although the service's own topic does not begin at its first record.

        Raises: `RebuildError`; `TransientError` and MongoDB's errors when the broker or the database cannot
        be reached.
        """
        if not resume and await self.runtime.database.list_collection_names():
            raise RebuildError("the database is not empty: choose another name, or continue with --resume")
        await self._check_dump()
        await self.service.migrate()
        async with self._exclusive():
            return await self._rebuild(resume=resume, accept_cut_off=accept_cut_off)

    async def _rebuild(self, *, resume: bool, accept_cut_off: bool) -> bool:
        if resume:
            await self.runtime.fuse.reset()
        undecided = await self._unsettled() if self._plan.restores else None
        if self._plan.restores:
            await self._drain("restoring", self._restorer())
            if not accept_cut_off:
                await self._refuse_if_cut_off()
            await self._plan.finish()
        if undecided:
            self._say(f"Restored up to this moment. {undecided} Then run this again with --resume.")
            return False
        if live := self.service.consumer:
            await self._drain("catching up", live)
        await self._check_exclusive()
        await self._report()
        return True

    async def look(self) -> dict[str, int]:
        """Records to read, by topic; changes nothing.

        Raises: `RebuildError` when the broker does not report the end of the log in time.
        """
        phases = [(restore_group(self._group), self._restorer()), (self._group, self.service.consumer)]
        return {
            topic: await self._count(group, topic)
            for group, consumer in phases
            if consumer
            for topic in consumer.topics
        }

    def close(self) -> None:
        self.runtime.client.close()

    def _restorer(self) -> BatchConsumer:
        return self.service.batch_consumer(restore_group(self._group), self._plan.restores)

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Hold the lease of this database. Two rebuilds would share the consumer group, and each would take
        its part for the whole."""
        if await Lease(self.runtime.database, "relay", seconds=0).taken():
            raise RebuildError("a service runs on that database: stop it, or choose another name")
        if not await self._lease.hold():
            raise RebuildError(
                "another rebuild of that database is running: wait for it; "
                f"if it was killed, its lease ends after {LEASE_SECONDS:.0f} s"
            )
        keeping = asyncio.create_task(_renew(self._lease))
        try:
            yield
        finally:
            keeping.cancel()
            await self._lease.release()

    async def _check_exclusive(self) -> None:
        """Raises: `RebuildError` when this process was paused beyond its lease and another rebuild has begun
        since."""
        if self._lease.held:
            return
        with suppress(PyMongoError):
            if not await self._lease.hold():
                raise RebuildError(
                    "another rebuild of that database began while this one was paused: let that one finish"
                )

    async def _check_dump(self) -> None:
        dump = await self._begun.find_one({"_id": DUMP})
        if dump and not dump["whole"]:
            raise RebuildError(
                "the database was restored from a dump only in part: drop it and restore again"
            )
        if self._plan.from_dump and not dump:
            raise RebuildError("the log alone is not enough: restore a dump, then continue with --resume")

    async def _unsettled(self) -> str | None:
        """Advice when the service may still make decisions that are not in the log yet; None when it
        cannot."""
        old: Database = database(self.runtime.client, self._old)
        if await Lease(old, "relay", seconds=0).taken():
            return "The service is still running and making decisions: stop it."
        if waiting := await old["outbox"].count_documents({}):
            return (
                f"The service has {waiting} unpublished events: "
                "start it until its outbox is empty, then stop it."
            )
        if unfinished := await old["jobs"].count_documents({"state": {"$nin": list(ENDED)}}):
            return (
                f"The service has {unfinished} jobs that have not ended: "
                "start it until they have (or cancel them), then stop it."
            )
        return None

    async def _drain(self, what: str, consumer: BatchConsumer) -> None:
        """Run `consumer` until it has committed all that the log held when it began.

        Raises: `RebuildError` when the fuse opens; the consumer's own errors.
        """
        watch = self._broker.watch = CatchUp(self._note)
        stop = asyncio.Event()
        running = asyncio.create_task(consumer.run(stop))
        try:
            with Meter(self._console, what) as meter:
                while not (watch.done.is_set() or running.done() or self.runtime.fuse.open):
                    await asyncio.wait({running}, timeout=0.1)
                    await self._check_exclusive()
                    meter.show(*watch.progress())
        finally:
            stop.set()
            await running
        if self.runtime.fuse.open:
            raise RebuildError("too many dead letters: find out why, then continue with --resume")

    async def _note(self, begins: Mapping[Partition, int]) -> None:
        """Store the first offset of each partition, so that a resumed run knows it too."""
        for (topic, number), offset in begins.items():
            row = {"$setOnInsert": {"topic": topic, "first": offset}}
            await self._begun.update_one({"_id": f"{topic}:{number}"}, row, upsert=True)

    async def _cut_off(self) -> list[str]:
        """Topics that were not read from offset 0."""
        return sorted(await self._begun.distinct("topic", {"first": {"$gt": 0}}))

    async def _refuse_if_cut_off(self) -> None:
        if topics := set(await self._cut_off()) & set(self._restorer().topics):
            raise RebuildError(
                f"{', '.join(topics)} was not read from its first record: the log was cut off, or the group "
                "is not new. Earlier decisions are unknown and would be made again, unless snapshots in the "
                "topic cover all of them: then continue with --resume --accept-cut-off"
            )

    async def _report(self) -> None:
        for line in await self._plan.summary():
            self._say(line)
        if dead := await self.runtime.dead_letters.letters.count_documents({"state": "dead"}):
            self._say(f"{dead} records were dead-lettered.")
        for topic in await self._cut_off():
            self._say(
                f"{topic} was not read from its first record: let its service publish snapshots (republish)."
            )
        self._say("Stop the service, and start it with:")
        self._say(f"  SANGATHAN_MONGO_DATABASE={self.runtime.settings.database}")
        self._say(f"  SANGATHAN_CONSUMER_GROUP={self._group}")

    async def _count(self, group: str, topic: str) -> int:
        watch = CatchUp(_note_nothing)
        self._broker.watch = watch
        consumer = await self._broker.consumer(group, [topic])
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                while not watch.seen.is_set():
                    await consumer.fetch(1, 0.25)
        except TimeoutError:
            raise RebuildError("the broker does not report the end of the log") from None
        finally:
            await consumer.stop()
        return watch.progress()[1]

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


async def _renew(lease: Lease) -> None:
    """Renew the lease. A short outage of MongoDB costs one of several tries; a longer one stops the rebuild
    too."""
    while True:
        await asyncio.sleep(LEASE_SECONDS / 4)
        with suppress(PyMongoError):
            await lease.hold()


async def _note_nothing(_: Any) -> None: ...
