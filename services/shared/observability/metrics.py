"""What every process says of itself, and how a sample names the trace that it came from."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector

from services import __version__
from services.shared.observability import tracing


def describe_process(registry: CollectorRegistry, service: str) -> None:
    """Register what is running, and the standard `process_*` and `python_*`."""
    build = Info("sangathan_build", "What is running; always 1.", registry=registry)
    build.info({"version": __version__, "python": platform.python_version(), "service": service})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def exemplar(trace_id: str | None = None) -> dict[str, str] | None:
    """For an observation of what a trace is about, the current one unless told; shown to scrapers that ask for OpenMetrics."""
    trace_id = trace_id or tracing.current_trace_id()
    return {"trace_id": trace_id} if trace_id else None
