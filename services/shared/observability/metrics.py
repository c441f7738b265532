"""Metrics of every process, and exemplars, which link a sample to its trace."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector

from services import __version__
from services.shared.observability import tracing


def describe_process(registry: CollectorRegistry, service: str) -> None:
    """Register the build's version and the standard `process_*` and `python_*` metrics."""
    build = Info("sangathan_build", "What is running; always 1.", registry=registry)
    build.info({"version": __version__, "python": platform.python_version(), "service": service})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def exemplar(trace_id: str | None = None) -> dict[str, str] | None:
    """The exemplar of an observation: `trace_id`, else the current trace. Shown to scrapers that accept
    OpenMetrics."""
    trace_id = trace_id or tracing.current_trace_id()
    return {"trace_id": trace_id} if trace_id else None
