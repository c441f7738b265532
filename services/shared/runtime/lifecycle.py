"""The life of a service process: logs and tracing, the server, and an orderly end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final, TypeVar

import uvicorn
from prometheus_client import disable_created_metrics

from services.shared.config.settings import ServiceSettings
from services.shared.http.draining import run
from services.shared.observability.logs import configure_logs
from services.shared.observability.tracing import TracingUnavailableError, configure_tracing, stop_tracing
from services.shared.runtime.composition import Service

S = TypeVar("S", bound=ServiceSettings)

FLUSH_SECONDS: Final = 1.0
"""For the last spans at the end; with `stop_seconds` and the requests in hand the exit takes less than 10 s."""


def serve(settings: S, build: Callable[[S], Service]) -> None:
    """Run a service until SIGTERM or SIGINT: every `python -m services.<name>` does this."""
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
    app = build(settings).app
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
        run(config, app.draining, settings.drain_seconds)
    finally:
        stop_tracing(FLUSH_SECONDS)
