"""The embedded stack: MongoDB, a broker, the topics and the services, as child processes."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.kafka.topics import ensure_topics, load_topics
from infra.local.broker import BROKERS, DEFAULT_BROKER
from infra.local.errors import LocalError
from infra.local.keys import ADMIN_SCOPES, Keys
from infra.local.mongod import mongo_uri, replica_set
from infra.local.ports import HOST, Ports
from infra.local.processes import Child
from infra.local.registering import register_texts
from infra.local.secured import Secured
from infra.local.services import SERVICES, Command, Surroundings, module, replicas, service, url
from infra.local.simulated import PORTS as SIMULATOR_PORTS
from infra.local.simulated import SimulatedGateways
from infra.local.workdir import hold
from services.shared.config.kafka_security import UNSECURED
from services.shared.errors import TransientError

log = logging.getLogger(__name__)

NEEDED_BYTES = 500_000_000
"""Free space without which nothing is started: the journals of MongoDB and of the broker take about half of
it at once."""


class LocalStack:
    """`async with LocalStack(directory) as stack:`. Everything is ready inside the block, and stopped after
    it.

    `services`     the services to start, none with `()`
    `broker`       one of `BROKERS`
    `brokers`, `mongo_nodes`   number of nodes; more than one broker needs `kafka`
    `replicas`     processes per service, one by default: `groups`, `groups-2`, ...
    `ports`        wanted ports by name (a process's, `kafka`, `mongo`); any free one if taken or not given
    `env`          extra environment variables by service, overriding those of the stack
    `command`      how to start a service
    `restart`      whether to restart a child that exits
    `fresh`        start without the data of earlier runs (the keys stay)
    `or_sibling`   if another run holds `directory`, use a sibling of it
    `secure`       TLS, and users with least privilege, on both stores; needs `kafka`
    `simulators`   a preset: simulators of the message gateways run, and notifications sends to them

    Inside: `urls` by process, `kafka` (host:port, ...), `mongo` (URI), `token` (all scopes, all units),
    `mint`,
    `processes` by name, `secured` (passwords and certificates, if `secure`), `gateways` (the simulators'
    addresses, if `simulators`), `directory`, and the file `<directory>/stack.json` for scripts.

    :raises LocalError: on entry, when something cannot start; nothing is left running
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        services: Sequence[str] = SERVICES,
        broker: str = DEFAULT_BROKER,
        brokers: int = 1,
        mongo_nodes: int = 1,
        replicas: Mapping[str, int] | None = None,
        command: Command = module,
        restart: bool = True,
        ports: Mapping[str, int] | None = None,
        env: Mapping[str, Mapping[str, str]] | None = None,
        fresh: bool = False,
        or_sibling: bool = False,
        secure: bool = False,
        simulators: str | None = None,
    ) -> None:
        if unknown := set(services) - set(SERVICES):
            raise LocalError(f"no such service: {', '.join(sorted(unknown))}")
        if broker not in BROKERS:
            raise LocalError(f"no such broker: {broker}; choose from {', '.join(BROKERS)}")
        self.directory = Path(directory).absolute()
        self.processes: dict[str, Child] = {}
        self._services, self._broker, self._restart = tuple(services), broker, restart
        self._nodes = {"mongo": mongo_nodes, "kafka": brokers}
        self._replicas, self._command = dict(replicas or {}), command
        self._wished, self._env = dict(ports or {}), dict(env or {})
        self._fresh, self._or_sibling, self._secure = fresh, or_sibling, secure
        self._simulated = simulators
        self.secured: Secured | None = None
        self.gateways: SimulatedGateways | None = None
        self._held = ExitStack()

    async def __aenter__(self) -> Self:
        wanted, self.directory = (
            self.directory,
            self._held.enter_context(hold(self.directory, or_sibling=self._or_sibling)),
        )
        if self.directory != wanted:
            log.warning("%s is in use by another run; this one lives in %s", wanted, self.directory)
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

    def environment(self, name: str) -> dict[str, str]:
        """The SANGATHAN_* variables of a process."""
        of = self._of_service[name]
        around = Surroundings(
            self._ports,
            self.mongo,
            self.kafka,
            self.keys,
            static_members=self._broker == "embedded",
            secured=self.secured,
        )
        values = around.environment(of, name)
        if self.gateways and of == "notifications":
            values |= self.gateways.environment()
        return values | dict(self._env.get(of, {}))

    async def start_again(self, name: str, env: Mapping[str, str]) -> None:
        """Start a stopped process again, with more environment variables.

        :raises LocalError: it does not become ready
        """
        of = self._of_service[name]
        self._env[of] = {**self._env.get(of, {}), **env}
        await self._start_all([self._process(name, of)])

    async def wait_ready(self, within: float = 60.0) -> None:
        """Wait until every child is ready, including those being restarted.

        :raises LocalError: one is not ready within `within` seconds
        """
        await asyncio.gather(*(child.wait_ready(within) for child in self.processes.values()))

    async def _start(self) -> None:
        self._prepare()
        stores = [*self._mongo_nodes(), *self._kafka_nodes()]
        await self._start_all([*stores, *([self.gateways.child(self._logs)] if self.gateways else [])])
        await self._create_topics()
        if self.secured:
            await asyncio.to_thread(self.secured.admit_services, self.kafka)
        self.processes["kafka"].recover = self._create_topics
        await self._start_all([self._process(name, service) for name, service in self._of_service.items()])
        if self.gateways and "notifications" in self.urls:
            await register_texts(self.urls["notifications"], self.token)
        self._write_stack_json()

    def _prepare(self) -> None:
        if self._fresh:
            shutil.rmtree(self._home / "data", ignore_errors=True)
        free = shutil.disk_usage(self.directory).free
        if free < NEEDED_BYTES:
            raise LocalError(
                f"the disk of {self.directory} has {free / 1e6:.0f} MB free, {NEEDED_BYTES / 1e6:.0f} MB are "
                "needed: free some, or give a --dir on another disk"
            )
        self.keys = Keys.open(self._home / "secrets")
        self.token = self.mint(ADMIN_SCOPES)
        self._spare = self._held.enter_context(Ports())
        self._stores = {
            store: [self._port(name) for name in replicas(store, nodes)]
            for store, nodes in self._nodes.items()
        }
        self._of_service = {
            name: service
            for service in self._services
            for name in replicas(service, self._replicas.get(service, 1))
        }
        # Every service gets an address, even if it is not started: its callers need one.
        self._ports = {name: self._port(name) for name in (*SERVICES, *(self._of_service.keys() - SERVICES))}
        self.mongo = mongo_uri(*self._stores["mongo"])
        self.kafka = ",".join(f"{HOST}:{port}" for port in self._stores["kafka"])
        if self._secure:
            self.secured = Secured.prepare(self._home, self.mongo)
        self.urls = {name: url(self._ports[name]) for name in self._of_service}
        if self._simulated is not None:
            ports, address = (
                {name: self._port(name) for name in SIMULATOR_PORTS},
                url(self._ports["notifications"]),
            )
            self.gateways = SimulatedGateways(ports, address, self._home, self._simulated)

    def _port(self, name: str) -> int:
        return self._spare.take(self._wished.get(name, 0), name)

    def _mongo_nodes(self) -> list[Child]:
        data, ports = self._home / "data" / "mongo", self._stores["mongo"]
        return replica_set(data, self._logs, ports, restart=self._restart, secured=self.secured)

    def _kafka_nodes(self) -> list[Child]:
        data, make = self._home / "data" / f"kafka-{self._broker}", BROKERS[self._broker]
        ports = self._stores["kafka"]
        return make(data, self._logs, ports, self._spare, restart=self._restart, secured=self.secured)

    def _process(self, name: str, of: str) -> Child:
        log_file, command, environment = self._logs / f"{name}.log", self._command(of), self.environment(name)
        return service(command, name, log_file, self._ports[name], environment, restart=self._restart)

    @property
    def _home(self) -> Path:
        """Directory of data and keys. A secured stack has a separate one, since a store's users are in its
        data."""
        return self.directory / "secured" if self._secure else self.directory

    @property
    def _logs(self) -> Path:
        return self.directory / "logs"

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
            security = self.secured.kafka() if self.secured else UNSECURED
            await ensure_topics(self.kafka, load_topics(brokers=self._nodes["kafka"]), security=security)
        except TransientError as problem:
            raise LocalError(f"the broker did not create the topics: {problem}") from None

    def _write_stack_json(self) -> None:
        services = {name: self.urls[name] for name in self._services}
        facts = {"services": services, "processes": self.urls, "kafka": self.kafka, "mongo": self.mongo}
        facts |= {"jwks": str(self.keys.jwks), "token": self.token}
        draft = self.directory / "stack.json.draft"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(facts, indent=2) + "\n")
        draft.replace(self.directory / "stack.json")

    async def _stop(self) -> None:
        """Stop services first, so that they can still publish and commit; then the stores."""
        (self.directory / "stack.json").unlink(missing_ok=True)
        try:
            services = [child for name, child in self.processes.items() if name in self._of_service]
            await self._stop_all(services)
            await self._stop_all([child for child in self.processes.values() if child not in services])
        finally:
            self._held.close()

    async def _stop_all(self, children: Sequence[Child]) -> None:
        await asyncio.gather(*(child.stop() for child in children))
