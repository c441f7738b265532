"""A process of a world, and its tasks."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry

from services.shared.contracts.members import MemberJoined, MemberUpdated
from services.shared.database import Lease
from services.shared.messaging import (
    Applier,
    BatchConsumer,
    DeadLetters,
    Fuse,
    Inbox,
    MessagingMetrics,
    Outbox,
    Relay,
    Replayer,
    Splitter,
    Subscriptions,
)
from services.shared.runtime.supervisor import Supervisor
from tests.fakes.kafka import MemoryBroker

if TYPE_CHECKING:
    from tests.unit.messaging.world import World

LEASE_SECONDS: Final = 5.0
RUN_LENGTH: Final = 4
METRICS: Final = MessagingMetrics(CollectorRegistry())
ACTOR: ContextVar[Actor] = ContextVar("actor")


class Crash(BaseException):
    """kill -9: no production code may catch it, and cleanup on the way out has no effect."""


class Actor:
    """A task of a process, and the step where it stands."""

    def __init__(self, world: World, process: Process, name: str, task: asyncio.Task[Any]) -> None:
        self.name = name
        self.process = process
        self.step = "begin"
        self.waits_for: list[Actor] = []
        """The actors of its concurrent sub-batches."""
        self._task = task
        self._world = world
        self._parked: asyncio.Future[None] | None = None

    @property
    def parked(self) -> bool:
        return self._parked is not None and not self._parked.done()

    @property
    def at_rest(self) -> bool:
        return self.parked or self._task.done() or any(not other._task.done() for other in self.waits_for)

    async def reach(self, step: str) -> None:
        if self.process.dead:
            raise Crash
        self._world.watch(self, step)
        self.step = step
        self._parked = asyncio.get_running_loop().create_future()
        try:
            await self._parked
        finally:
            self._parked = None

    def release(self, error: BaseException | None = None) -> None:
        assert self._parked is not None
        if error is None:
            self._parked.set_result(None)
        else:
            self._parked.set_exception(error)


class WatchedFuse(Fuse):
    """Reports to the world when it opens."""

    def __init__(self, world: World, service: str) -> None:
        super().__init__(world.database(service), world, run_length=RUN_LENGTH)
        self._world = world

    async def trip(self) -> None:
        resets = self._world.resets
        await super().trip()
        if resets == self._world.resets:
            self._world.blown = True
            self._world.times_blown += 1


class Process:
    """The parts that `Service` composes, without HTTP."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.service = name[0]
        self.dead = False
        self.born_blown = world.times_blown if world.blown else None
        db = world.database(self.service)
        self.broker = MemoryBroker(world.log, world.step)
        self.outbox = Outbox(world.client, db, world)
        self.lease = Lease(db, "relay", seconds=LEASE_SECONDS)
        self.fuse = WatchedFuse(world, self.service)
        subscriptions: Subscriptions = {MemberJoined: world.handle, MemberUpdated: world.handle}
        self.consumer = BatchConsumer(
            applier=Applier(
                group=self.service,
                subscriptions=subscriptions,
                outbox=self.outbox,
                inbox=Inbox(db),
                dead_letters=DeadLetters(db, world, self.service, METRICS),
                fuse=self.fuse,
                clock=world,
                metrics=METRICS,
                splitter=Splitter(db, lambda event: event.subject),
            ),
            broker=self.broker,
            fuse=self.fuse,
            clock=world,
            metrics=METRICS,
            max_batch=5,
        )
        self.replayer = Replayer(
            group=self.service,
            subscriptions=subscriptions,
            broker=self.broker,
            outbox=self.outbox,
            inbox=Inbox(db),
            dead_letters=DeadLetters(db, world, self.service, METRICS),
            clock=world,
        )
        relay = Relay(self.outbox, self.broker, self.lease, METRICS, max_batch=2)
        loops = {"relay": world.acted(self, "relay", relay.run)}
        if self.service == "b":
            loops["consumer"] = world.acted(self, "consumer", self.consumer.run)
        self.supervisor = Supervisor(loops, METRICS)
        self.supervisor.start()

    def terminate(self) -> None:
        for stop, _ in self.supervisor._running.values():
            stop.set()

    @property
    def ended(self) -> bool:
        return all(task.done() for _, task in self.supervisor._running.values())
