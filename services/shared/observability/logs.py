"""Logging for the whole process: JSON lines on standard output, without personal data.

structlog loggers and the standard library's (uvicorn, aiokafka, pymongo) go through the same processors.
Allowed: ids, unit codes, counts, names of types and files. Replaced by `[redacted]`: values under a denied
key, and any text that looks like a phone number, an e-mail address or a token.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import PurePath
from types import TracebackType
from typing import Any, Literal, TextIO
from uuid import UUID

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from services.shared.observability.correlation import current_context

REDACTED = "[redacted]"

# fmt: off
# Denied as whole keys: "name" is denied, "topic_name" is not.
_DENIED_KEYS = frozenset({
    "name", "names", "first_name", "last_name", "full_name", "display_name", "handle", "address",
    "birth_year", "birth_date", "body", "text", "payload", "document", "input", "value", "values",
    "variables", "notice", "agenda", "link", "invite_link", "authorization", "cookie",
})
# Denied as any word of a key.
_DENIED_WORDS = frozenset({
    "phone", "phones", "mobile", "msisdn", "email", "emails", "mail", "password", "passwd", "secret",
    "secrets", "token", "tokens",
})
# Messages of these exceptions quote the data that caused them.
_QUOTING_ERRORS = frozenset({
    "ValidationError", "RequestValidationError", "ResponseValidationError", "PydanticCustomError",
    "OperationFailure", "InvalidDocument", "JSONDecodeError", "UnicodeError", "KeyError",
})
# fmt: on
_KEY_WORDS = re.compile(r"[^a-z0-9]+")

_PERSONAL = re.compile(
    r"""
      eyJ[\w-]{4,}\.[\w-]+\.[\w-]*                                  # a JSON Web Token
    | (?i:bearer)\s+[\w.~+/=-]{8,}
    | [^\s@<>"'=,;]+@[^\s@<>"'=,;]+\.[^\s@<>"'=,;]+                  # e-mail; also user:password@host
    | (?<![\w.])\+\d[\d\s().-]{7,17}\d                               # international
    | (?<![\w.-])(?:(?:0|91)[\s-]?)?[6-9६-९]\d{4}[\s-]?\d{5}(?![\w-]) # Indian mobile
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[A-Za-z]{1,60}")
_INDIAN_MOBILE = range(6_000_000_000, 10_000_000_000)
_WITH_COUNTRY_CODE = range(916_000_000_000, 920_000_000_000)
_MAX_DEPTH = 8

LIMITED = frozenset({"aiokafka", "asyncio", "kafka", "motor", "pymongo", "uvicorn"})
"""Libraries that log as often as they retry, or as anybody sends them a malformed request."""
LIMITED_EVENTS = frozenset({"request failed", "request.unavailable"})
"""Lines of ours that a caller can cause at will, by route and error."""
LINES = 3
LINES_SECONDS = 60.0
_MAX_TEMPLATES = 1000


class RepeatFilter(logging.Filter):
    """Lets `LINES` lines of one kind through in `LINES_SECONDS`; the next one after that says how many were
    suppressed. Only for the loggers of `LIMITED` and the lines of `LIMITED_EVENTS`."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, str], list[float]] = {}
        """By logger and kind: the end of the window (`time.monotonic`), and the lines in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (kind := _limited_kind(record)) is None:
            return True
        now = time.monotonic()
        if len(self._windows) >= _MAX_TEMPLATES:  # templates that hold values
            self._windows.clear()
        window = self._windows.setdefault((record.name, kind), [now + LINES_SECONDS, 0])
        if now >= window[0]:
            if suppressed := int(window[1]) - LINES if window[1] > LINES else 0:
                _append(record, f" ({suppressed} like it were suppressed)")
            window[:] = [now + LINES_SECONDS, 0]
        window[1] += 1
        return window[1] <= LINES


def _limited_kind(record: logging.LogRecord) -> str | None:
    """The kind of a limited line: its template, or its event with route and error. None: not limited."""
    event: object = record.msg
    if isinstance(event, dict) and event.get("event") in LIMITED_EVENTS:
        return f"{event['event']} {event.get('route')} {event.get('error')}"
    return str(event) if record.name.partition(".")[0] in LIMITED else None


def _append(record: logging.LogRecord, words: str) -> None:
    event: object = record.msg
    if isinstance(event, dict):
        record.msg = {**event, "event": f"{event['event']}{words}"}
    else:
        record.msg, record.args = record.getMessage() + words, ()


def configure_logs(
    *,
    service: str,
    instance: str,
    level: str = "INFO",
    fmt: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
) -> None:
    """Set up logging for the process; a second call replaces the first.

    Run uvicorn with `log_config=None`; otherwise it installs its own handlers.
    """
    bound = {"service": service, "instance": instance}

    def bind(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**bound, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _correlate,
        bind,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    render: list[Processor] = [_to_json]
    if fmt == "console":
        render = [_exception_as_text, structlog.dev.ConsoleRenderer(colors=False)]
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _explain_exception,
                redact,
                *render,
            ],
        )
    )
    _route_standard_library(handler, level)


def _route_standard_library(handler: logging.Handler, level: str) -> None:
    # Otherwise a record that cannot be formatted would be printed raw, values and all.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # These are chatty at INFO, and some log whole URLs.
    for name in ("uvicorn.access", "httpx2", "httpcore2", "aiokafka", "pymongo", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _correlate(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = current_context()
    if context is not None:
        event.setdefault("request_id", context.request_id)
        event.setdefault("trace_id", context.trace_id)
    return event


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace values that may be personal, at any depth. Objects of unknown types become the name of their
    type."""
    return {key: _redacted(key, value, 0) for key, value in event.items()}


def _redacted(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if _denied(key) or depth > _MAX_DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        # The key itself can be personal: {"+91...": "refused"}.
        return {_PERSONAL.sub(REDACTED, str(k)): _redacted(str(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item, depth + 1) for item in value]
    return _redacted_scalar(value)


def _redacted_scalar(value: object) -> object:
    match value:
        case str() | PurePath():
            return _PERSONAL.sub(REDACTED, str(value))
        case int():
            return REDACTED if value in _INDIAN_MOBILE or value in _WITH_COUNTRY_CODE else value
        case float() | date() | UUID():  # a datetime is a date
            return value
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case _:
            return f"<{type(value).__qualname__}>"


def _denied(key: str) -> bool:
    key = key.lower()
    return key in _DENIED_KEYS or not _DENIED_WORDS.isdisjoint(_KEY_WORDS.split(key))


def _explain_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()
    error = raised[1] if isinstance(raised, tuple) else raised
    if isinstance(error, BaseException):
        event["exception"] = explain(error)
    return event


def explain(error: BaseException, *, messages: bool = True) -> list[dict[str, Any]]:
    """An exception and its causes, outermost first: `{"type", "code"?, "message"?, "frames"}`.

    `code` is MongoDB's name of the error (`AuthenticationFailed`), which quotes no data. Messages of errors
    known to quote data are left out; with `messages=False`, all messages are. Frames are `file:line
    function`, innermost last, the last 25; never source lines or variables.
    """
    links = []
    for link in _chain(error):
        entry: dict[str, Any] = {"type": type(link).__qualname__, "frames": _frames(link.__traceback__)}
        if code := _code(link):
            entry["code"] = code
        quoting = any(cls.__name__ in _QUOTING_ERRORS for cls in type(link).__mro__)
        if messages and not quoting and str(link):
            entry["message"] = str(link)
        links.append(entry)
    return links


def _code(error: BaseException) -> str | None:
    details = getattr(error, "details", None)  # of pymongo's OperationFailure
    name = details.get("codeName") if isinstance(details, Mapping) else None
    return name if isinstance(name, str) and _WORD.fullmatch(name) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < 10:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-25:]


def _exception_as_text(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    links = event.get("exception")
    if isinstance(links, list):
        event["exception"] = "\n".join(
            "\n".join(
                [
                    f"{link['type']}: {link.get('message', link.get('code', ''))}",
                    *(f"  {at}" for at in link["frames"]),
                ]
            )
            for link in links
        )
    return event


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:  # lone surrogates and integers over 64 bits, which the standard library can write
        return json.dumps(event, default=str)
