"""Composition: builds a service from a runtime and a list of features, and starts and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import structlog
from fastapi import APIRouter, FastAPI
from pymongo.errors import PyMongoError
from starlette.requests import Request
from starlette.responses import Response

from services.shared import jobs, messaging
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import EVENTS
from services.shared.database import Lease, Migration, idempotency, migrate, migrations
from services.shared.errors import TransientError
from services.shared.faults import may_pass
from services.shared.http.app import ServiceApp, create_app
from services.shared.http.auth import Authenticator
from services.shared.http.metrics import AuthMetrics, route_template
from services.shared.http.problem import Problem, render
from services.shared.http.revocations import RevocationList
from services.shared.jobs import JobGauges, JobMetrics, JobWorker
from services.shared.loops import Loop
from services.shared.messaging import (
    Affinity,
    Applier,
    BatchConsumer,
    Handler,
    Inbox,
    Relay,
    Replayer,
    SetAside,
    Splitter,
    Subscriptions,
    UnitOfWork,
)
from services.shared.runtime.dead_letters_api import dead_letters_router
from services.shared.runtime.feature import Feature, Hook
from services.shared.runtime.jobs_api import jobs_router
from services.shared.runtime.repairs_api import forget_router, snapshots_router
from services.shared.runtime.runtime import Runtime
from services.shared.runtime.slow_gauges import SlowGauges, clock_skew, oplog
from services.shared.runtime.status_api import status_router
from services.shared.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

PLATFORM_MIGRATIONS: Final = (
    *migrations.MIGRATIONS,
    *messaging.MIGRATIONS,
    *idempotency.MIGRATIONS,
    *jobs.MIGRATIONS,
)


class StartError(Exception):
    """The service could not start; the log event `service.start_failed` has the reason."""


class Service:
    """A composed service; `app` is its HTTP application. Commands use its components: a rebuild drains
    `consumer` into a new database."""

    def __init__(
        self,
        runtime: Runtime,
        features: Sequence[Feature],
        *,
        description: str,
        affinity: Affinity | None = None,
    ) -> None:
        """`affinity` names what the transactions of two events can conflict on (see `Affinity` in
        `messaging`)."""
        self.runtime = runtime
        self.features = features
        self.migrations: tuple[Migration, ...] = (
            *PLATFORM_MIGRATIONS,
            *(migration for feature in features for migration in feature.migrations),
        )
        migrations.check_ids(self.migrations)
        _each_once("job kind", (kind.name for feature in features for kind in feature.jobs))
        self.consumer: BatchConsumer | None = None
        self.replayer: Replayer | None = None
        name = runtime.settings.service
        routers = [router for feature in features for router in feature.routers]
        routers.append(jobs_router(runtime.jobs, read_scope=f"{name}:read", write_scope=f"{name}:write"))
        self.subscriptions = merged(feature.subscriptions for feature in features)
        if self.subscriptions:
            self.consumer = self.batch_consumer(runtime.settings.group, self.subscriptions, affinity)
            self.replayer = self._replayer(self.subscriptions)
            routers.append(dead_letters_router(self.replayer, runtime.dead_letters, runtime.fuse))
        routers.append(status_router(runtime, self.consumer))
        routers += self._repair_routers()
        self._supervisor = Supervisor(self._loops(), runtime.metrics)
        self.app = self._application(description, routers)

    def batch_consumer(
        self, group: str, subscriptions: Subscriptions, affinity: Affinity | None = None
    ) -> BatchConsumer:
        """A consumer of this service's database and log, not started."""
        runtime = self.runtime
        return BatchConsumer(
            applier=Applier(
                group=group,
                subscriptions=subscriptions,
                outbox=runtime.outbox,
                inbox=Inbox(runtime.database),
                dead_letters=runtime.dead_letters,
                fuse=runtime.fuse,
                clock=runtime.server_clock,
                metrics=runtime.metrics,
                splitter=Splitter(runtime.database, affinity),
            ),
            broker=runtime.broker,
            fuse=runtime.fuse,
            clock=runtime.clock,
            metrics=runtime.metrics,
            max_batch=runtime.settings.consumer_max_batch,
        )

    async def migrate(self) -> None:
        """Bring the database to the newest version: the platform's collections, then the service's. Learn
        its time."""
        await migrate(self.runtime.database, self.migrations, self.runtime.clock)
        await self.runtime.server_clock.read()

    def _replayer(self, subscriptions: Subscriptions) -> Replayer:
        runtime = self.runtime
        return Replayer(
            group=runtime.settings.group,
            subscriptions=subscriptions,
            broker=runtime.broker,
            outbox=runtime.outbox,
            inbox=Inbox(runtime.database),
            dead_letters=runtime.dead_letters,
            clock=runtime.server_clock,
        )

    def _repair_routers(self) -> Iterable[APIRouter]:
        runtime = self.runtime
        if learnt := [each for feature in self.features for each in feature.learnt]:
            yield forget_router(learnt, runtime.outbox)
        if sources := [source for feature in self.features for source in feature.snapshots]:
            yield snapshots_router(sources, runtime.database, runtime.outbox)

    def _loops(self) -> dict[str, Loop]:
        """The background loops, in the order of starting. They stop in reverse order, the relay last."""
        runtime = self.runtime
        lease = Lease(runtime.database, "relay", seconds=runtime.settings.lease_seconds)
        relay = Relay(
            runtime.outbox, runtime.broker, lease, runtime.metrics, max_batch=runtime.settings.relay_max_batch
        )
        own = {event.topic for event in EVENTS if event.source == f"/{runtime.settings.service}"}
        runtime.metrics.relay.publishes({*own, runtime.dead_letters.topic} if self.consumer else own)
        readings = [reading for feature in self.features for reading in feature.slow_gauges]
        skew = clock_skew(runtime.server_clock, runtime.registry)
        gauges = SlowGauges([skew, oplog(runtime.client, runtime.registry), *readings])
        loops: dict[str, Loop] = {
            "relay": relay.run,
            "outbox-gauges": relay.watch,
            "slow-gauges": gauges.run,
        }
        if self.consumer:
            assert self.replayer is not None
            set_aside = SetAside(self.replayer, runtime.dead_letters, runtime.outbox, runtime.metrics)
            loops |= {
                "dead_letters": runtime.dead_letters.watch,
                "set-aside": set_aside.run,
                "consumer-gauges": self.consumer.watch,
                "consumer": self.consumer.run,
            }
        loops |= self._job_loops()
        of_features = [loop for feature in self.features for loop in feature.loops.items()]
        _each_once("loop", [*loops, *(name for name, _ in of_features)])
        return loops | dict(of_features)

    def _job_loops(self) -> dict[str, Loop]:
        jobs, kinds = self.runtime.jobs, [kind for feature in self.features for kind in feature.jobs]
        metrics = JobMetrics(self.runtime.registry, [kind.name for kind in kinds])
        loops: dict[str, Loop] = {"job-gauges": JobGauges(jobs, metrics).watch}
        if kinds:
            worker = JobWorker(jobs, self.runtime.outbox, kinds, metrics)
            loops |= {"job-inputs": jobs.inputs.run, "jobs": worker.run}
        return loops

    def _application(self, description: str, routers: Sequence[APIRouter]) -> ServiceApp:
        runtime = self.runtime
        authenticator = _authenticator(runtime)
        limits = {path: limit for feature in self.features for path, limit in feature.body_limits.items()}

        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            try:
                await self.migrate()
            except Exception as error:
                log.error("service.start_failed", exc_info=error)
                # The server logs the traceback of any error it gets, with messages that may quote data.
                raise StartError(type(error).__name__) from None
            settle_garbage_collector()
            self._supervisor.start()
            try:
                yield
            finally:
                await self._stop()
                await authenticator.aclose()
                runtime.close()

        app = create_app(
            service=runtime.settings.service,
            description=description,
            routers=routers,
            registry=runtime.registry,
            authenticator=authenticator,
            readiness={"mongodb": self._mongo_ready},
            lifespan=lifespan,
            max_in_flight=runtime.settings.max_in_flight,
            max_in_flight_per_caller=runtime.settings.max_in_flight_per_caller,
            max_connections=runtime.settings.max_connections,
            body_limits=limits,
        )
        for transient in (PyMongoError, TransientError, TimeoutError):
            app.add_exception_handler(transient, _unavailable)
        return app

    async def _stop(self) -> None:
        """Run the stop hooks, stop the loops and run the close hooks within `stop_seconds`, so that the exit
        takes less than 10 s even without MongoDB."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self.runtime.settings.stop_seconds
        for hook in self._hooks("on_stop"):
            await _carry_out(hook, max(0.1, deadline - clock.time()))
        await self._supervisor.stop(max(0.1, deadline - clock.time()))
        for hook in self._hooks("on_close"):
            await _carry_out(hook, max(0.1, deadline - clock.time()))

    def _hooks(self, moment: str) -> Iterable[Hook]:
        return [hook for feature in self.features for hook in getattr(feature, moment)]

    async def _mongo_ready(self) -> str | None:
        await self.runtime.client.admin.command("ping")
        return None


async def _carry_out(hook: Hook, seconds: float) -> None:
    """Await a hook of the stop; one that fails or takes too long does not keep the others from theirs."""
    try:
        await asyncio.wait_for(hook(), seconds)
    except TimeoutError:
        log.warning("stop.step_cut_short")
    except Exception as error:
        log.error("stop.step_failed", exc_info=error)


def _each_once(what: str, names: Iterable[str]) -> None:
    """Raises: `ValueError`, so that no feature silently takes the place of another's."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} declared twice: {', '.join(twice)}")


def merged(subscriptions: Iterable[Subscriptions]) -> Subscriptions:
    """One handler for each event type. If several features subscribe to a type, it awaits their handlers in
    order."""
    handlers: dict[type[Event], list[Handler]] = {}
    for each in subscriptions:
        for event, handler in each.items():
            handlers.setdefault(event, []).append(handler)
    return {event: _in_order(several) for event, several in handlers.items()}


def _in_order(handlers: Sequence[Handler]) -> Handler:
    if len(handlers) == 1:
        return handlers[0]

    async def handle(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        for handler in handlers:
            await handler(events, work)

    return handle


def _authenticator(runtime: Runtime) -> Authenticator:
    settings, metrics = runtime.settings, AuthMetrics(runtime.registry)
    revoked = RevocationList(settings.revoked_tokens) if settings.revoked_tokens else None
    authenticator = Authenticator(
        settings.jwks,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        clock=runtime.clock,
        keep_keys_seconds=settings.jwks_keep_seconds,
        revoked=revoked,
        on_revoked=metrics.revoked.inc,
        unit_now=runtime.successions.standing_for,
    )
    metrics.watch(authenticator, revoked)
    return authenticator


def settle_garbage_collector() -> None:
    """Exclude the objects made at start-up from garbage collection, and collect less often: otherwise a fifth
    of a POST's time.

    Requests and events create few reference cycles, so little garbage waits.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


async def _unavailable(request: Request, error: Exception) -> Response:
    """Answer 503 to a transient fault; any other error becomes the last-resort 500."""
    if not may_pass(error):
        raise error
    log.warning("request.unavailable", route=route_template(request.scope), error=type(error).__name__)
    problem = Problem(503, "unavailable", "Service unavailable", headers={"Retry-After": "1"})
    return render(problem, request.scope)
