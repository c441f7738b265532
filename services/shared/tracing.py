"""The trace that the running code belongs to. Tracing is an extra: without OpenTelemetry there is none."""

from __future__ import annotations

try:
    from opentelemetry import trace
except ImportError:  # the extra is not installed

    def current_trace_id() -> str | None:
        """Of the recording span that is current, 32 hexadecimal digits; None without one."""
        return None

else:

    def current_trace_id() -> str | None:
        """Of the recording span that is current, 32 hexadecimal digits; None without one."""
        span = trace.get_current_span()
        return trace.format_trace_id(span.get_span_context().trace_id) if span.is_recording() else None
