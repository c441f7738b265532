"""`python -m tests.chaos.saboteur groups`: the unchanged service, in a process that strikes itself at a named
step.

The service contains no test code: the steps are observed at its seams, the broker and MongoDB's command
monitoring. An order is a file named after the service in CHAOS_DIR: `<step> <blow>`. The first process to
reach the step removes the file, which proves that it fired, and strikes: `SIGKILL`, `SIGSTOP`, or `lose` for
a lost reply.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pymongo import monitoring

from services.analytics import app as analytics
from services.analytics.settings import AnalyticsSettings
from services.groups import app as groups
from services.groups.settings import GroupsSettings
from services.members import app as members
from services.members.settings import MembersSettings
from services.notifications import app as notifications
from services.notifications.settings import NotificationsSettings
from services.shared.errors import TransientError
from services.shared.messaging import (
    PUBLISH_SECONDS,
    Broker,
    Consumer,
    Message,
    Partition,
    Producer,
    Reading,
    Refusal,
)
from services.shared.operations.catch_up import ConsumerDecorator
from services.shared.runtime import broker_of, serve

SERVICES: Mapping[str, tuple[Any, Any]] = {
    "members": (MembersSettings, members.build),
    "groups": (GroupsSettings, groups.build),
    "notifications": (NotificationsSettings, notifications.build),
    "analytics": (AnalyticsSettings, analytics.build),
}
EFFECTS = {"inbox", "members"}
"""A transaction that inserts into one of these is an effect: of an event, or of an accepted request."""


class Orders:
    """The steps: `effect.before`, `effect.after`, `produce.before`, `produce.after` (acknowledged, rows still
    present),
    `delete.after` (rows deleted), `offsets.before`, `offsets.after`."""

    def __init__(self, directory: Path, service: str) -> None:
        self._file = directory / service

    def at(self, step: str) -> None:
        """Carry out the order for this step, if one exists.

        Raises: `TransientError` for the blow `lose`.
        """
        try:
            wanted, blow = self._file.read_text().split()
            if wanted != step:
                return
            self._file.unlink()  # only one process succeeds
        except (FileNotFoundError, ValueError):
            return
        if blow == "lose":
            raise TransientError("the reply was lost")
        os.kill(os.getpid(), signal.Signals[blow])


class Watched(monitoring.CommandListener):
    """Maps MongoDB's commands to steps."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._effects: set[bytes] = set()
        self._ends: dict[int, str] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        command, session = event.command, event.command.get("lsid", {}).get("id", b"")
        if event.command_name == "insert" and command["insert"] in EFFECTS and "txnNumber" in command:
            self._effects.add(session)
        elif event.command_name == "commitTransaction" and session in self._effects:
            self._effects.discard(session)
            self._orders.at("effect.before")
            self._ends[event.request_id] = "effect.after"
        elif event.command_name == "delete" and command["delete"] == "outbox":
            self._ends[event.request_id] = "delete.after"

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if step := self._ends.pop(event.request_id, None):
            self._orders.at(step)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._ends.pop(event.request_id, None)


class StruckProducer:
    def __init__(self, producer: Producer, orders: Orders) -> None:
        self._producer, self._orders = producer, orders

    async def publish(
        self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
    ) -> Mapping[int, Refusal]:
        self._orders.at("produce.before")
        refused = await self._producer.publish(messages, timeout)
        self._orders.at("produce.after")
        return refused

    async def probe(self) -> None:
        await self._producer.probe()

    async def stop(self) -> None:
        await self._producer.stop()


class StruckConsumer(ConsumerDecorator):
    def __init__(self, consumer: Consumer, orders: Orders) -> None:
        super().__init__(consumer)
        self._orders = orders

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        self._orders.at("offsets.before")
        await super().commit(offsets)
        self._orders.at("offsets.after")


class StruckBroker:
    def __init__(self, broker: Broker, orders: Orders) -> None:
        self._broker, self._orders = broker, orders

    async def producer(self) -> Producer:
        return StruckProducer(await self._broker.producer(), self._orders)

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        return StruckConsumer(await self._broker.consumer(group, topics), self._orders)

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        return await self._broker.read(places)


def main(service: str) -> None:
    settings_type, build = SERVICES[service]
    orders = Orders(Path(os.environ["CHAOS_DIR"]), service)
    monitoring.register(Watched(orders))
    serve(
        settings_type.load(),
        lambda settings: build(settings, broker=StruckBroker(broker_of(settings), orders)),
    )


if __name__ == "__main__":
    main(sys.argv[1])
