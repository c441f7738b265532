"""The composition every service shares: connections, outbox and relay, consumer, HTTP application, start and stop.

A service's `app.py` makes a `Kernel`, hands it subscriptions, loops and routers, and returns `kernel.app(...)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from pymongo.errors import PyMongoError
from starlette.requests import Request
from starlette.responses import Response

from services.shared.clock import Clock, SystemClock
from services.shared.eventkit.applier import Applier, Subscriptions
from services.shared.eventkit.broker import Broker
from services.shared.eventkit.consumer import BatchConsumer
from services.shared.eventkit.dead_letters import DeadLetters
from services.shared.eventkit.errors import TransientError, Verdict, classify
from services.shared.eventkit.fuse import Fuse
from services.shared.eventkit.inbox import Inbox
from services.shared.eventkit.kafka import KafkaBroker
from services.shared.eventkit.lease import Lease
from services.shared.eventkit.loops import Loop, Loops
from services.shared.eventkit.metrics import EventkitMetrics
from services.shared.eventkit.outbox import Outbox
from services.shared.eventkit.parts import Affinity, Parts
from services.shared.eventkit.relay import Relay
from services.shared.eventkit.replay import Replayer
from services.shared.http.app import create_app
from services.shared.http.auth import Authenticator
from services.shared.http.draining import run
from services.shared.http.problem import Problem, render
from services.shared.logs import configure_logs
from services.shared.metrics import describe_process
from services.shared.migrations import Migration, migrate
from services.shared.mongo import connect, database
from services.shared.mongo_metrics import MongoMetrics
from services.shared.ops_api import Operations, operations
from services.shared.settings import ServiceSettings
from services.shared.tracing import TracingUnavailableError, configure_tracing, stop_tracing
from services.shared.vitals import Vitals, oplog

log = structlog.get_logger(__name__)

S = TypeVar("S", bound=ServiceSettings)
Step = Callable[[], Awaitable[None]]

FLUSH_SECONDS = 1.0
"""What the last spans may take at the end; with `stop_seconds` and the requests in hand the exit is under 10 s."""


class StartError(Exception):
    """The service cannot start; `service.start_failed` in the log says why."""


class Kernel:
    def __init__(
        self,
        settings: ServiceSettings,
        *,
        clock: Clock | None = None,
        broker: Broker | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        name = settings.service
        self.settings = settings
        self.clock = clock or SystemClock()
        self.registry = registry or CollectorRegistry()
        describe_process(self.registry, name)
        self.metrics = EventkitMetrics(self.registry)
        self.broker = broker or broker_of(settings, on_assigned=self.metrics.consumer.rebalances.inc)
        mongo = MongoMetrics(self.registry)
        self.client = connect(settings.mongo_uri, app_name=f"sangathan-{name}", listeners=[mongo])
        self.database = database(self.client, settings.database)
        self.outbox = Outbox(self.client, self.database, self.clock, on_retry=mongo.transaction_retries.inc)
        self.dead_letters = DeadLetters(self.database, self.clock, name, self.metrics)
        self.fuse = Fuse(self.database, self.clock)
        self.loops = Loops(self.metrics)
        self.consumer: BatchConsumer | None = None
        self.replayer: Replayer | None = None
        self.migrations: Sequence[Migration] = ()
        relay = Relay(
            self.outbox,
            self.broker,
            Lease(self.database, "relay", seconds=settings.lease_seconds),
            self.metrics,
            max_batch=settings.relay_max_batch,
        )
        self.loops.add("relay", relay.run)
        self.loops.add("outbox-gauges", relay.watch)
        self.vitals = Vitals()
        self.vitals.add(oplog(self.client, self.registry))
        self.loops.add("vitals", self.vitals.run)

    def loop(self, name: str, loop: Loop) -> None:
        """Run `loop` in the background; it stops before the relay does."""
        self.loops.add(name, loop)

    def subscribe(self, subscriptions: Subscriptions, *, affinity: Affinity | None = None) -> None:
        """Consume the topics of these event types as the consumer group of the settings."""
        self.consumer = self.batch_consumer(self.settings.group, subscriptions, affinity)
        self.replayer = Replayer(
            group=self.settings.group,
            subscriptions=subscriptions,
            broker=self.broker,
            outbox=self.outbox,
            inbox=Inbox(self.database),
            dead_letters=self.dead_letters,
            clock=self.clock,
        )
        self.loops.add("dead_letters", self.dead_letters.watch)
        self.loops.add("consumer", self.consumer.run)

    def batch_consumer(
        self, group: str, subscriptions: Subscriptions, affinity: Affinity | None = None
    ) -> BatchConsumer:
        """A consumer over this kernel's database and log, not started."""
        return BatchConsumer(
            applier=Applier(
                group=group,
                subscriptions=subscriptions,
                outbox=self.outbox,
                inbox=Inbox(self.database),
                dead_letters=self.dead_letters,
                fuse=self.fuse,
                clock=self.clock,
                metrics=self.metrics,
                parts=Parts(self.database, affinity),
            ),
            broker=self.broker,
            fuse=self.fuse,
            clock=self.clock,
            metrics=self.metrics,
            max_batch=self.settings.consumer_max_batch,
        )

    async def migrate(self) -> None:
        """Bring the database to the newest version of the kernel's and the service's migrations."""
        await migrate(self.database, self.migrations, self.clock)

    def app(
        self,
        *,
        description: str,
        routers: Sequence[APIRouter],
        migrations: Sequence[Migration],
        state: dict[str, Any],
        on_stop: Sequence[Step] = (),
        on_close: Sequence[Step] = (),
        **options: Any,
    ) -> FastAPI:
        """The service's application. `state` is what its routes reach as `request.app.state.<name>`.

        On start: migrations, then the loops. On stop: `on_stop` (requests have ended by then), the loops
        last added first, the relay last of all, then `on_close` and the connections. `options` go to `create_app`.
        """

        authenticator = self._authenticator()
        self.migrations = migrations

        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            try:
                await self.migrate()
            except Exception as error:
                log.error("service.start_failed", exc_info=error)
                # The server writes the traceback of what reaches it into the log as a text, messages that quote data and all.
                raise StartError(type(error).__name__) from None
            settle_garbage_collector()
            self.loops.start()
            try:
                yield
            finally:
                await self._stop(on_stop)
                for step in on_close:
                    await step()
                await authenticator.aclose()
                self.client.close()

        app = create_app(
            service=self.settings.service,
            description=description,
            routers=[*routers, *([operations] if self.consumer else [])],
            registry=self.registry,
            authenticator=authenticator,
            readiness={"mongodb": self._mongo_ready, "consumer": self._consumer_ready},
            lifespan=lifespan,
            max_in_flight=self.settings.max_in_flight,
            **options,
        )
        for passing in (PyMongoError, TransientError, TimeoutError):
            app.add_exception_handler(passing, _unavailable)
        app.state.kernel = self
        if self.replayer:
            app.state.operations = Operations(self.replayer, self.dead_letters, self.fuse)
        for name, value in state.items():
            setattr(app.state, name, value)
        return app

    async def _stop(self, steps: Sequence[Step]) -> None:
        """The steps and the loops share `stop_seconds`, so that the whole exit stays under 10 s with MongoDB down too."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self.settings.stop_seconds
        for step in steps:
            try:
                await asyncio.wait_for(step(), max(0.1, deadline - clock.time()))
            except TimeoutError:
                log.warning("stop.step_cut_short")
        await self.loops.stop(max(0.1, deadline - clock.time()))

    def _authenticator(self) -> Authenticator:
        authenticator = Authenticator(
            self.settings.jwks,
            issuer=self.settings.jwt_issuer,
            audience=self.settings.jwt_audience,
            clock=self.clock,
        )
        Gauge(
            "sangathan_auth_keys_unreadable",
            "1 while the key set that verifies tokens cannot be read: keys that its issuer has added since are refused.",
            registry=self.registry,
        ).set_function(lambda: authenticator.keys_unreadable)
        return authenticator

    async def _mongo_ready(self) -> str | None:
        await self.client.admin.command("ping")
        return None

    async def _consumer_ready(self) -> str | None:
        return self.consumer.unready() if self.consumer else None


def broker_of(settings: ServiceSettings, *, on_assigned: Callable[[], None] = lambda: None) -> KafkaBroker:
    """The log that these settings name."""
    return KafkaBroker(
        settings.kafka_bootstrap,
        client_id=settings.instance,
        prefix=settings.kafka_prefix,
        group_instance_id=settings.kafka_group_instance_id,
        on_assigned=on_assigned,
        security=settings.kafka_security,
    )


def settle_garbage_collector() -> None:
    """Leave what start-up made out of every collection, and collect less often: a fifth of a POST's time otherwise.

    Requests and events make few cycles, so what waits a little longer is small.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


async def _unavailable(request: Request, error: Exception) -> Response:
    """503 for a fault that passes; any other is the last-resort 500's."""
    if classify(error) is Verdict.PERMANENT:
        raise error
    log.warning("request.unavailable", error=type(error).__name__)
    problem = Problem(503, "unavailable", "Service unavailable", headers={"Retry-After": "1"})
    return render(problem, request.scope)


def serve(settings: S, build: Callable[[S], FastAPI]) -> None:
    """Run a service until SIGTERM or SIGINT: what every `python -m services.<name>` does."""
    configure_logs(
        service=settings.service,
        instance=settings.instance,
        level=settings.log_level,
        fmt=settings.log_format,
    )
    try:
        configure_tracing(settings)
    except TracingUnavailableError as missing:
        raise SystemExit(f"error: {missing}") from None
    # uvicorn raises the signal again once it has stopped; the default handler would make a clean stop look like a death.
    signal.signal(signal.SIGTERM, lambda *_: None)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double what is scraped, and nobody reads them
    app = build(settings)
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
        backlog=4096,
    )
    try:
        run(config, app.state.draining, settings.drain_seconds)
    finally:
        stop_tracing(FLUSH_SECONDS)
