"""The life of a service process: set up logs and tracing, serve, stop in order."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
import uvicorn
from prometheus_client import disable_created_metrics

from services.shared.config.settings import ServiceSettings, unknown_variables
from services.shared.http.app import ServiceApp
from services.shared.http.draining import GRACEFUL_SECONDS, DrainingServer, StopSignals
from services.shared.http.guard import guarded_by
from services.shared.observability.logs import configure_logs
from services.shared.observability.tracing import TracingUnavailableError, configure_tracing, stop_tracing
from services.shared.runtime.composition import Service

log = structlog.get_logger(__name__)

S = TypeVar("S", bound=ServiceSettings)

FLUSH_SECONDS: Final = 1.0
"""Time for exporting the last spans. With `stop_seconds` and the last requests, the exit takes less than 10
s."""
OTHER_FILES: Final = 512
"""Open files besides the callers' connections: those to MongoDB and Kafka, modules, logs."""
SPARE_SECONDS: Final = 0.5
"""Seconds that the steps of a stop may take beyond their deadlines, before the watchdog ends the process."""


def serve(settings: S, build: Callable[[S], Service]) -> None:
    """Run a service until SIGTERM or SIGINT; the entry point of every `python -m services.<name>`."""
    signals = StopSignals(
        settings.drain_seconds + GRACEFUL_SECONDS + settings.stop_seconds + FLUSH_SECONDS + SPARE_SECONDS
    )
    # uvicorn raises the signal again after it has stopped; this handler then ignores it, where the default
    # one would turn a clean stop into a death by signal.
    signals.install()
    configure_logs(
        service=settings.service,
        instance=settings.instance,
        level=settings.log_level,
        fmt=settings.log_format,
    )
    for name, meant in unknown_variables(type(settings).model_fields).items():
        log.warning("settings.unknown", variable=name, did_you_mean=meant)
    try:
        configure_tracing(settings)
    except TracingUnavailableError as missing:
        raise SystemExit(f"error: {missing}") from None
    disable_created_metrics()  # type: ignore[no-untyped-call]  # unused, and they double a scrape
    app = build(settings).app
    app.openapi()  # kept from here on: made at the first request it would hold up the others
    allow_open_files(settings.max_connections)
    try:
        config = server_config(app, settings)
        DrainingServer(config, app.draining, app.guard, settings.drain_seconds, signals).run_until_stopped()
    finally:
        stop_tracing(FLUSH_SECONDS)


def server_config(app: ServiceApp, settings: ServiceSettings) -> uvicorn.Config:
    """How every service serves its application."""
    return uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http=guarded_by(app.guard),
        ws="none",
        proxy_headers=False,  # nothing here depends on what a caller says about its address
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        timeout_keep_alive=30,
        backlog=4096,
    )


def allow_open_files(connections: int) -> None:
    """Raise the process's limit of open files so that `connections` fit, as far as its hard limit allows:
    without a free file nothing can be accepted, not even a probe."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("server.few_open_files", wanted=wanted, allowed=allowed)
