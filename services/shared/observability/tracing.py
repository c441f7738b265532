"""Traces through OpenTelemetry: the only module that imports it. Its SDK is loaded when `SANGATHAN_OTLP_ENDPOINT` is set.

A trace goes where the events go: each carries the `traceparent` of the step that caused it (CloudEvents distributed tracing
extension), so it reaches from a request through every topic to the last effect. Whoever begins a trace decides whether it is
recorded; every other step looks at that flag first, so what is not recorded costs nothing, and with tracing off nothing is done
per event. Attributes are ids, types, topics and statuses: never a path with its values, a query, a body or an error's text.
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
"""Spans that wait for the collector; the oldest are dropped for newer ones when it cannot keep up."""
BATCH_SPANS: Final = 512
EXPORT_EVERY_MS: Final = 1000
EXPORT_SECONDS: Final = 5.0
"""For one batch with all its retries; it is dropped then."""

Attributes = Mapping[str, str | int]


class TracingUnavailableError(RuntimeError):
    """Tracing is asked for and the extra `tracing` is not installed."""


class Span:
    """One step that is being recorded. `traceparent` is what the steps it causes are children of."""

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
        """Once; later calls do nothing. `error` is a word of ours or the name of a type, never a message."""
        if not self._raw.is_recording():
            return
        if name:
            self._raw.update_name(name)
        if error:
            self._raw.set_attribute("error.type", error)
            self._raw.set_status(StatusCode.ERROR)
        self._raw.end()


Spans = Mapping[str, Span]
"""The recorded ones of a batch, by a key of the caller's."""


class _Tracing(NamedTuple):
    provider: TracerProvider
    tracer: Tracer


_tracing: _Tracing | None = None


def configure_tracing(settings: ServiceSettings) -> None:
    """Set up tracing for the process if the settings name a collector. `OTEL_EXPORTER_OTLP_HEADERS` and the like are heeded.

    Raises: `TracingUnavailableError`.
    """
    global _tracing  # noqa: PLW0603  # one per process, as its log is
    if not settings.otlp_endpoint:
        return
    try:
        provider = _provider(settings)
    except ModuleNotFoundError as missing:
        raise TracingUnavailableError(
            f"SANGATHAN_OTLP_ENDPOINT is set, but {missing.name} is not installed: pip install 'sangathan[tracing]'"
        ) from None
    _tracing = _Tracing(provider, provider.get_tracer("sangathan"))


def stop_tracing(seconds: float) -> None:
    """Send what is waiting, for `seconds` at most; what the collector has not taken by then is lost."""
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
    """The trace that the running code works for, 32 hex digits, if it is being recorded; None without tracing."""
    context = current_context()
    if _tracing is None or context is None or not is_sampled(context.traceparent):
        return None
    return context.trace_id


def begin(
    name: str, kind: SpanKind, parent: str, attributes: Attributes, *, since: datetime | None = None
) -> Span | None:
    """A step caused by the one whose traceparent is `parent`; None when that is not recorded, or no traceparent at all."""
    if _tracing is None or not is_sampled(parent) or (cause := valid(parent)) is None:
        return None
    start = None if since is None else int(since.timestamp() * 1_000_000) * 1000
    raw = _tracing.tracer.start_span(name, _remote(cause), kind, attributes, start_time=start)
    return Span(raw)


def begin_request(caller: str | None) -> Span | None:
    """The step that answers a request. `caller` is its traceparent, if it has a valid one; a trace begins here otherwise."""
    if _tracing is None:
        return None
    if caller is not None:
        return begin("HTTP", SpanKind.SERVER, caller, {})
    raw = _tracing.tracer.start_span("HTTP", Context(), SpanKind.SERVER)
    return Span(raw) if raw.is_recording() else None


def end_request(span: Span, method: str, route: str, status: int) -> None:
    """`route` is the template: the path itself holds what the caller put there."""
    span.set({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    span.end(name=f"{method} {route}", error=str(status) if status >= 500 else "")


@contextmanager
def calling(method: str, path: str, peer: str) -> Iterator[Span | None]:
    """A call of another service, for what the running code works for. `path` must be a constant."""
    context = current_context()
    attributes = {"http.request.method": method, "url.template": path, "server.address": peer}
    span = begin(f"{method} {path}", SpanKind.CLIENT, context.traceparent, attributes) if context else None
    with spans([(path, span)] if span else []):
        yield span


@contextmanager
def spans(begun: Iterable[tuple[str, Span]]) -> Iterator[Spans]:
    """Those of a batch, by key. What is not ended inside the block ends with it. Off, `begun` is not looked at."""
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

    who = {
        "service.name": settings.service,
        "service.namespace": "sangathan",
        "service.instance.id": settings.instance,
    }
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.trace_ratio),
        resource=Resource.create(who),
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
    """What a step of another process, or an earlier one of ours, is to the library. `traceparent` is `valid`."""
    _, trace_id, span_id, flags = traceparent.split("-")
    context = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(context), Context())
