"""Traces through OpenTelemetry: the only module that imports it. The SDK is loaded only when
`SANGATHAN_OTLP_ENDPOINT` is set.

A trace follows the events: each event carries the `traceparent` of the step that caused it (CloudEvents
distributed tracing extension), so a trace reaches from a request through every topic to the last effect. The
process that begins a trace decides whether it is recorded; every later step checks that flag first. So a step
that is not recorded costs nothing, and with tracing off nothing is done per event. Attributes are ids, types,
topics and statuses: never a path with its values, a query, a body or an error's text.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as RawSpan

from services.shared.config.settings import ServiceSettings
from services.shared.observability.correlation import current_context, is_sampled, valid

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = [
    "Attributes",
    "Span",
    "SpanKind",
    "Spans",
    "TracingUnavailableError",
    "begin",
    "begin_request",
    "calling",
    "configure_tracing",
    "current_trace_id",
    "enabled",
    "end_request",
    "spans",
    "stop_tracing",
]

log = structlog.get_logger(__name__)

QUEUE_SPANS: Final = 4096
"""Spans that may wait for the collector. When it cannot keep up, new spans replace the oldest."""
BATCH_SPANS: Final = 512
EXPORT_EVERY_MS: Final = 1000
EXPORT_SECONDS: Final = 5.0
"""Deadline for exporting one batch, retries included; then the batch is dropped."""

Attributes = Mapping[str, str | int]


class TracingUnavailableError(RuntimeError):
    """`otlp_endpoint` is set, but the extra `tracing` is not installed."""


class Span:
    """One recorded step of a trace. `traceparent` is the parent of the steps that it causes."""

    __slots__ = ("_raw", "traceparent")

    def __init__(self, raw: RawSpan) -> None:
        self._raw = raw
        context = raw.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return self.traceparent[3:35]

    def set(self, attributes: Attributes) -> None:
        self._raw.set_attributes(attributes)

    def end(self, *, name: str = "", error: str = "") -> None:
        """End the span; later calls do nothing. `error` is a slug or the name of a type, never a message."""
        if not self._raw.is_recording():
            return
        if name:
            self._raw.update_name(name)
        if error:
            self._raw.set_attribute("error.type", error)
            self._raw.set_status(StatusCode.ERROR)
        self._raw.end()


Spans = Mapping[str, Span]
"""The recorded spans of a batch, by a key that the caller chooses."""


class _Tracing(NamedTuple):
    provider: TracerProvider
    tracer: Tracer


_tracing: _Tracing | None = None


def configure_tracing(settings: ServiceSettings) -> None:
    """Set up tracing for the process if the settings name a collector. `OTEL_EXPORTER_OTLP_HEADERS` and the
    like apply.

    Raises: `TracingUnavailableError`.
    """
    global _tracing  # noqa: PLW0603  # one per process, like its log
    if not settings.otlp_endpoint:
        return
    try:
        provider = _provider(settings)
    except ModuleNotFoundError as missing:
        raise TracingUnavailableError(
            f"SANGATHAN_OTLP_ENDPOINT is set, but {missing.name} is not installed: "
            "pip install 'sangathan[tracing]'"
        ) from None
    _tracing = _Tracing(provider, provider.get_tracer("sangathan"))


def stop_tracing(seconds: float) -> None:
    """Send the waiting spans for at most `seconds`; spans that the collector has not taken by then are
    lost."""
    global _tracing  # noqa: PLW0603
    if _tracing is None:
        return
    ending = threading.Thread(target=_tracing.provider.shutdown, daemon=True, name="stop tracing")
    _tracing = None
    ending.start()
    ending.join(seconds)
    if ending.is_alive():
        log.warning("tracing.spans_lost_at_stop")


def enabled() -> bool:
    return _tracing is not None


def current_trace_id() -> str | None:
    """The id (32 hex digits) of the trace that the running code works for, if the trace is recorded; else
    None."""
    context = current_context()
    if _tracing is None or context is None or not is_sampled(context.traceparent):
        return None
    return context.trace_id


def begin(
    name: str, kind: SpanKind, parent: str, attributes: Attributes, *, since: datetime | None = None
) -> Span | None:
    """Begin a step caused by the step with the traceparent `parent`. None when `parent` is not recorded or
    not valid."""
    if _tracing is None or not is_sampled(parent) or (cause := valid(parent)) is None:
        return None
    start = None if since is None else int(since.timestamp() * 1_000_000) * 1000
    raw = _tracing.tracer.start_span(name, _remote(cause), kind, attributes, start_time=start)
    return Span(raw)


def begin_request(caller: str | None) -> Span | None:
    """Begin the step that answers a request. `caller` is the request's valid traceparent; without one, a
    trace begins here."""
    if _tracing is None:
        return None
    if caller is not None:
        return begin("HTTP", SpanKind.SERVER, caller, {})
    raw = _tracing.tracer.start_span("HTTP", Context(), SpanKind.SERVER)
    return Span(raw) if raw.is_recording() else None


def end_request(span: Span, method: str, route: str, status: int) -> None:
    """End the span of a request. `route` is the template, because a path holds values chosen by the
    caller."""
    span.set({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    span.end(name=f"{method} {route}", error=str(status) if status >= 500 else "")


@contextmanager
def calling(method: str, path: str, peer: str) -> Iterator[Span | None]:
    """The span of a call to another service, made for the current context. `path` must be a constant."""
    context = current_context()
    attributes = {"http.request.method": method, "url.template": path, "server.address": peer}
    span = begin(f"{method} {path}", SpanKind.CLIENT, context.traceparent, attributes) if context else None
    with spans([(path, span)] if span else []):
        yield span


@contextmanager
def spans(begun: Iterable[tuple[str, Span]]) -> Iterator[Spans]:
    """The spans of a batch, by key. Spans still open at the end of the block are ended. With tracing off,
    `begun` is never read."""
    if _tracing is None:
        yield {}
        return
    running = dict(begun)
    error = ""
    try:
        yield running
    except BaseException as failure:
        error = type(failure).__name__
        raise
    finally:
        for span in running.values():
            span.end(error=error)


def _provider(settings: ServiceSettings) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    identity = {
        "service.name": settings.service,
        "service.namespace": "sangathan",
        "service.instance.id": settings.instance,
    }
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.trace_ratio),
        resource=Resource.create(identity),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE_SPANS,
            max_export_batch_size=BATCH_SPANS,
            schedule_delay_millis=EXPORT_EVERY_MS,
        )
    )
    return provider


def _remote(traceparent: str) -> Context:
    """The library's context for a parent step of another process, or an earlier one of this process.

    `traceparent` must be valid.
    """
    _, trace_id, span_id, flags = traceparent.split("-")
    context = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(context), Context())
