"""The request or event that the running code works for: two ids that travel into events and log lines."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_SAMPLED = frozenset("13579bdf")
"""Last hex digits of the flags whose lowest bit, `sampled`, is set."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """`traceparent` is W3C Trace Context version 00 and already has a span id of this process."""

    request_id: str
    traceparent: str

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]


_current: ContextVar[RequestContext | None] = ContextVar("sangathan_request_context", default=None)


def current_context() -> RequestContext | None:
    """The context of the running task; None outside a request or event."""
    return _current.get()


def enter(context: RequestContext) -> None:
    """Make `context` current for the rest of this task."""
    _current.set(context)


@contextmanager
def working_for(context: RequestContext) -> Iterator[None]:
    """Make `context` current inside the block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def new_traceparent() -> str:
    """A traceparent of a new trace that is not recorded: its `sampled` flag is off (W3C Trace Context,
    3.2.2.5)."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def valid(traceparent: str) -> str | None:
    """`traceparent` in the form of version 00, or None when it is invalid (W3C Trace Context, 3.2)."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return f"00-{trace_id}-{span_id}-{flags}"


def continued(traceparent: str) -> str:
    """The same trace with a new span id. `traceparent` must be valid."""
    return f"{traceparent[:36]}{secrets.token_hex(8)}{traceparent[52:]}"


def is_sampled(traceparent: str) -> bool:
    """Whether the previous step of the trace recorded it."""
    return traceparent[-1:] in _SAMPLED
