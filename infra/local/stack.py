"""The embedded stack: MongoDB, a broker, the topics and the services, as child processes of this one."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.kafka.topics import ensure_topics, load_topics
from infra.local.broker import BROKERS
from infra.local.errors import LocalError
from infra.local.keys import ADMIN_SCOPES, Keys
from infra.local.mongod import mongo_uri, mongod
from infra.local.ports import Ports
from infra.local.processes import Child
from infra.local.services import HOST, SERVICES, Surroundings, service, url
from infra.local.workdir import hold
from services.shared.eventkit.errors import TransientError


class LocalStack:
    """`async with LocalStack(directory) as stack:` — everything is ready inside, and stopped after.

    `services`     which of the four to start, none with `()`
    `ports`        wished ports by name (a service's, `kafka`, `mongo`); taken or missing ones are chosen freely
    `env`          extra environment variables by service, over what the stack sets
    `restart`      whether a child that exits is started again
    `fresh`        begin without the data of earlier runs (the keys stay)
    `or_sibling`   if another run holds `directory`, use a sibling of it

    Inside: `urls` by service, `kafka` (host:port), `mongo` (URI), `token` (all scopes, all units), `mint`,
    `processes` by name, `directory`, and the file `<directory>/stack.json` for scripts.

    :raises LocalError: on entry, when something cannot start; nothing is left running
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        services: Sequence[str] = SERVICES,
        broker: str = "embedded",
        restart: bool = True,
        ports: Mapping[str, int] | None = None,
        env: Mapping[str, Mapping[str, str]] | None = None,
        fresh: bool = False,
        or_sibling: bool = False,
    ) -> None:
        if unknown := set(services) - set(SERVICES):
            raise LocalError(f"no such service: {', '.join(sorted(unknown))}")
        if broker not in BROKERS:
            raise LocalError(f"no such broker: {broker}; there is {', '.join(BROKERS)}")
        self.directory = Path(directory).absolute()
        self.processes: dict[str, Child] = {}
        self._services, self._broker, self._restart = tuple(services), broker, restart
        self._wished, self._env = dict(ports or {}), dict(env or {})
        self._fresh, self._or_sibling = fresh, or_sibling
        self._held = ExitStack()

    async def __aenter__(self) -> Self:
        self.directory = self._held.enter_context(hold(self.directory, or_sibling=self._or_sibling))
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def mint(self, scopes: str, unit: str | None = "*", **claims: object) -> str:
        """A token that the services accept; see `Keys.mint`."""
        return self.keys.mint(scopes, unit, **claims)

    async def wait_ready(self, within: float = 60.0) -> None:
        """Until every child is ready, those that are being restarted too.

        :raises LocalError: one is not within `within` seconds
        """
        await asyncio.gather(*(child.wait_ready(within) for child in self.processes.values()))

    async def _start(self) -> None:
        self._prepare()
        stores = [self._mongod(), self._kafka()]
        await self._start_all(stores)
        await self._create_topics()
        self.processes["kafka"].recover = self._create_topics
        await self._start_all([self._service(name) for name in self._services])
        self._write_stack_json()

    def _prepare(self) -> None:
        if self._fresh:
            shutil.rmtree(self.directory / "data", ignore_errors=True)
        self.keys = Keys.open(self.directory / "secrets")
        self.token = self.mint(ADMIN_SCOPES)
        ports = Ports()
        self._ports = {name: ports.take(self._wished.get(name, 0)) for name in ("mongo", "kafka", *SERVICES)}
        self.mongo = mongo_uri(self._ports["mongo"])
        self.kafka = f"{HOST}:{self._ports['kafka']}"
        self.urls = {name: url(self._ports[name]) for name in self._services}

    def _mongod(self) -> Child:
        data = self.directory / "data" / "mongo"
        return mongod(data, self._log("mongo"), self._ports["mongo"], restart=self._restart)

    def _kafka(self) -> Child:
        data = self.directory / "data" / f"kafka-{self._broker}"
        make = BROKERS[self._broker]
        return make(data, self._log("kafka"), self._ports["kafka"], restart=self._restart)

    def _service(self, name: str) -> Child:
        around = Surroundings(self._ports, self.mongo, self.kafka, self.keys)
        return service(name, self._log(name), around, self._env.get(name, {}), restart=self._restart)

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    async def _start_all(self, children: Sequence[Child]) -> None:
        self.processes |= {child.name: child for child in children}
        try:
            async with asyncio.TaskGroup() as starting:
                for child in children:
                    starting.create_task(child.start())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _create_topics(self) -> None:
        try:
            await ensure_topics(self.kafka, load_topics(brokers=1))
        except TransientError as problem:
            raise LocalError(f"the broker would not create the topics: {problem}") from None

    def _write_stack_json(self) -> None:
        facts = {"services": self.urls, "kafka": self.kafka, "mongo": self.mongo, "token": self.token}
        draft = self.directory / "stack.json.draft"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(facts, indent=2) + "\n")
        draft.replace(self.directory / "stack.json")

    async def _stop(self) -> None:
        """Services first, so that they can still publish and commit; then what they stand on."""
        (self.directory / "stack.json").unlink(missing_ok=True)
        try:
            await self._stop_all(self._services)
            await self._stop_all(("kafka", "mongo"))
        finally:
            self._held.close()

    async def _stop_all(self, names: Sequence[str]) -> None:
        await asyncio.gather(*(self.processes[name].stop() for name in names if name in self.processes))
