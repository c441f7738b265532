"""The codec of events: CloudEvents 1.0 in Kafka's binary content mode, attributes in `ce_*` headers, data in
the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import BY_TYPE, publisher_of
from services.shared.contracts.vocabulary import MAX_AHEAD, MAX_SEQUENCE, UUID
from services.shared.errors import PermanentError
from services.shared.messaging.broker import Message, Record
from services.shared.observability.correlation import new_traceparent, valid

CONTENT_TYPE: Final = b"application/json"
MAX_VALUE_BYTES: Final = 64 * 1024
"""Largest value that is parsed. No event of this project comes near it; a larger value is a mistake."""
MAX_HEADERS: Final = 32
MAX_HEADER_BYTES: Final = 4096
"""Most headers of a record, and most bytes of their names and values; other parties' headers count too."""

HEADERS: Final[Mapping[str, str]] = {
    "ce_specversion": r"1\.0",
    "ce_id": UUID,
    "ce_source": r"/[a-z][a-z0-9-]{0,31}",
    "ce_type": r"[a-z]{1,24}(?:\.[a-z0-9_]{1,32}){1,3}",
    "ce_subject": r"[A-Za-z0-9-]{1,128}",
    "ce_time": r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3}(?:[0-9]{3})?)?Z",
    "content-type": "application/json",
    "ce_sequence": "[1-9][0-9]{0,15}",
    "ce_correlationid": r"[A-Za-z0-9._-]{1,64}",
    "ce_traceparent": "00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}",
    "ce_causationid": UUID,
}
"""The headers of an event and their forms, as `encode` writes them and in its order.

What we copy into events, letters and logs is thereby bounded. Readers also take another order, any time of
RFC 3339, a newer `traceparent`, another content type, and records without the last three.
"""
REQUIRED_HEADERS: Final = frozenset(HEADERS) - {
    "content-type",
    "ce_correlationid",
    "ce_traceparent",
    "ce_causationid",
}
_RFC_3339: Final = r"[2-9][0-9]{3}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_FORMS: Final = {name: re.compile(form) for name, form in {**HEADERS, "ce_time": _RFC_3339}.items()}
_PARSED: Final = frozenset({"ce_specversion", "content-type", "ce_traceparent"})
"""Headers that may have another form than ours."""
_TYPE_AT: Final = tuple(HEADERS).index("ce_type")
_LAYOUTS: Final = {len(names): names for names in (tuple(HEADERS), tuple(HEADERS)[:-1])}
"""The names that `encode` writes, by their number; `ce_causationid` may be missing."""
_AS_WRITTEN: Final = re.compile(
    "\n".join([f"({form})" for form in list(HEADERS.values())[:-1]]) + f"(?:\n({UUID}))?"
)
"""The values of all headers, one a line."""


class RawJson(JSONFormat):
    """Leaves the data as JSON bytes: pydantic reads and writes bytes faster than dicts."""

    def write_data(self, data: Any, datacontenttype: str | None) -> bytes:
        return bytes(data)

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body


RAW_JSON: Final = RawJson()


def encode(envelope: Envelope[Event]) -> Message:
    """The Kafka message of an event; its key is the subject.

    Writes the headers by hand, because this is on the path of every POST: the library validates each
    attribute again, which took three quarters of the time. tests/contracts compare the result with the
    library's `to_binary`.
    """
    data = envelope.data
    key = data.subject.encode()
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.id.encode()),
        ("ce_source", data.source.encode()),
        ("ce_type", data.event_type.encode()),
        ("ce_subject", key),
        ("ce_time", envelope.time.isoformat().replace("+00:00", "Z").encode()),
        ("content-type", CONTENT_TYPE),
        ("ce_sequence", b"%d" % envelope.sequence),
        ("ce_correlationid", envelope.correlation_id.encode()),
        ("ce_traceparent", envelope.traceparent.encode()),
    ]
    if envelope.causation_id is not None:
        headers.append(("ce_causationid", envelope.causation_id.encode()))
    return Message(data.topic, key, data.__pydantic_serializer__.to_json(data), tuple(headers))


def decode(record: Record, now: datetime | None = None) -> Envelope[Event]:
    """The event in a record, whose claims are checked: its type belongs to its topic, its source publishes
    there, its key and `ce_subject` are the id in the data, and every field and header is within its bounds.

    `now` is the reader's time (None: the machine's), since nothing can have happened later.

    Raises: `PermanentError` with the reason `unknown_type`, `too_large`, `headers_too_large`,
    `not_a_cloudevent`, `wrong_topic`, `wrong_source`, `time_ahead` or `key_mismatch`; `UnknownTypeError`;
    `pydantic.ValidationError` when the data does not match the contract.
    """
    latest = (now or SystemClock().now()) + MAX_AHEAD
    value = record.value
    kind = BY_TYPE.get(peek_type(record) or "")
    if kind is None:
        raise _unknown(record, latest)
    if value is None or len(value) > MAX_VALUE_BYTES:
        raise PermanentError("too_large" if value else "not_a_cloudevent")
    attributes = _claimed(record, value, kind.source, latest)
    # As `model_validate_json` does, which takes a third as long again to get there.
    data: Event = kind.__pydantic_validator__.validate_json(value)
    id_, _, subject, time, sequence, correlation_id, traceparent, causation_id = attributes
    if data.subject != subject or record.key != subject.encode():
        raise PermanentError("key_mismatch")
    for name in kind.past_fields:
        if getattr(data, name) > latest:
            raise PermanentError("time_ahead", name)
    if record.partition.topic != kind.topic:
        raise PermanentError("wrong_topic")
    return Envelope(id_, sequence, time, correlation_id, traceparent, data, causation_id)


class UnknownTypeError(PermanentError):
    """A type that this release does not know, in a record that is otherwise as its publisher would write it:
    a later release may know it."""

    def __init__(self) -> None:
        super().__init__("unknown_type")


def _unknown(record: Record, latest: datetime) -> PermanentError:
    source, value = publisher_of(record.partition.topic), record.value
    if source is None or not value or len(value) > MAX_VALUE_BYTES:
        return PermanentError("unknown_type")
    try:
        attributes = _claimed(record, value, source, latest)
    except PermanentError:
        return PermanentError("unknown_type")
    return UnknownTypeError() if record.key == attributes.subject.encode() else PermanentError("unknown_type")


def _claimed(record: Record, value: bytes, source: str, latest: datetime) -> Attributes:
    """The attributes, of which the source is `source` and the time not later than `latest`."""
    attributes = as_we_write(record.headers) or by_the_library(record.headers, value)
    if attributes.source != source:
        raise PermanentError("wrong_source")
    if attributes.time > latest:
        raise PermanentError("time_ahead", "ce_time")
    return attributes


def peek_type(record: Record) -> str | None:
    """`ce_type`, without decoding the rest; None when it is missing or empty."""
    headers = record.headers
    if len(headers) > _TYPE_AT and headers[_TYPE_AT][0] == "ce_type":
        value = headers[_TYPE_AT][1]
        return value.decode("ascii", "replace") if value else None
    return peek(record, "ce_type")


def peek(record: Record, header: str) -> str | None:
    for name, value in record.headers:
        if name == header:
            return value.decode("ascii", "replace") if value else None
    return None


class Attributes(NamedTuple):
    """The attributes that messaging uses, each within its bounds."""

    id: str
    source: str
    subject: str
    time: datetime
    sequence: int
    correlation_id: str
    traceparent: str
    causation_id: str | None


def as_we_write(headers: tuple[tuple[str, bytes], ...]) -> Attributes | None:
    """The attributes, if the headers are exactly those that `encode` writes; else None, and the library must
    parse them.

    The library took a fifth of a consumer's time per event. tests/contracts compare this function with it.
    """
    if tuple([name for name, _ in headers]) != _LAYOUTS.get(len(headers)):
        return None
    try:
        written = _AS_WRITTEN.fullmatch(b"\n".join([value for _, value in headers]).decode())
        if written is None:
            return None
        _, id_, source, _, subject, at, _, sequence, correlation_id, traceparent, causation_id = (
            written.groups()
        )
        time = datetime.fromisoformat(at)
    except (TypeError, ValueError):  # null, not UTF-8, or an impossible date
        return None
    number = int(sequence)
    if number > MAX_SEQUENCE:
        return None
    return Attributes(id_, source, subject, time, number, correlation_id, traceparent, causation_id)


def by_the_library(headers: tuple[tuple[str, bytes], ...], value: bytes) -> Attributes:
    """The attributes, parsed by the CloudEvents library. Headers that are not ours are ignored.

    An event without a correlation id begins a chain of its own.

    Raises: `PermanentError` with the reason `headers_too_large` or `not_a_cloudevent`.
    """
    try:
        event = from_binary(KafkaMessage(_ours(headers), None, value), RAW_JSON, CloudEvent)
        if not isinstance(event, CloudEvent):
            raise PermanentError("not_a_cloudevent", "ce_specversion")
    except (CloudEventValidationError, ValueError, AttributeError, OverflowError) as error:
        raise PermanentError("not_a_cloudevent", type(error).__name__) from error
    sequence = int(event.get_extension("sequence"))
    if sequence > MAX_SEQUENCE:
        raise PermanentError("not_a_cloudevent", "ce_sequence")
    traceparent = event.get_extension("traceparent")
    if traceparent is not None and (traceparent := valid(traceparent)) is None:
        raise PermanentError("not_a_cloudevent", "ce_traceparent")
    return Attributes(
        id=event.get_id(),
        source=event.get_source(),
        subject=event.get_subject() or "",
        time=event.get_attributes()["time"],
        sequence=sequence,
        correlation_id=event.get_extension("correlationid") or event.get_id(),
        traceparent=traceparent or new_traceparent(),
        causation_id=event.get_extension("causationid"),
    )


def _ours(headers: tuple[tuple[str, bytes], ...]) -> dict[str, bytes]:
    """The headers of `HEADERS` that have a value, in their forms; a null or empty one counts as missing."""
    size = sum([len(name) + len(value or b"") for name, value in headers])
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise PermanentError("headers_too_large")
    ours: dict[str, bytes] = {}
    for name, value in headers:
        if name in HEADERS and value:
            if name in ours:
                raise PermanentError("not_a_cloudevent", f"{name} twice")
            if name not in _PARSED and not _FORMS[name].fullmatch(value.decode("ascii", "replace")):
                raise PermanentError("not_a_cloudevent", name)
            ours[name] = value
    if missing := REQUIRED_HEADERS - ours.keys():  # the library would invent an id and a time
        raise PermanentError("not_a_cloudevent", "missing " + min(missing))
    return ours


def kept_headers(record: Record) -> dict[str, str]:
    """The headers that a dead letter may show: ours, in their forms; any other may hold anything."""
    found = {name: peek(record, name) for name in HEADERS}
    return {name: text for name, text in found.items() if text and _FORMS[name].fullmatch(text)}
