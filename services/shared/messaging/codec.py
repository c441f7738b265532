"""The codec of events: CloudEvents 1.0 in Kafka's binary content mode, attributes in `ce_*` headers, data in
the value."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, NamedTuple

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import BY_TYPE
from services.shared.errors import PermanentError
from services.shared.messaging.broker import Message, Record

CONTENT_TYPE: Final = b"application/json"
MAX_VALUE_BYTES: Final = 256 * 1024
"""Largest value that is parsed. No event of this project comes near it; a larger value is a mistake."""

REQUIRED_HEADERS: Final = frozenset(
    {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_sequence"}
)

_NAMES: Final = (
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "content-type",
    "ce_sequence",
    "ce_correlationid",
    "ce_traceparent",
)
"""The headers that `encode` writes, in order; `ce_causationid` may follow."""
_COUNT: Final = len(_NAMES)
_CAUSED: Final = ((), ("ce_causationid",))
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3}([0-9]{3})?)?Z")


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


def decode(record: Record) -> Envelope[Event]:
    """The event in a record.

    Raises: `PermanentError` with the reason `unknown_type`, `too_large`, `not_a_cloudevent` or
    `key_mismatch`; `pydantic.ValidationError` when the data does not match the contract.
    """
    kind = BY_TYPE.get(peek_type(record) or "")
    if kind is None:
        raise PermanentError("unknown_type")
    if record.value is None or len(record.value) > MAX_VALUE_BYTES:
        raise PermanentError("too_large" if record.value else "not_a_cloudevent")
    attributes = as_we_write(record.headers) or by_the_library(record.headers, record.value)
    data = kind.model_validate_json(record.value)
    if data.subject != attributes.subject or record.key != data.subject.encode():
        raise PermanentError("key_mismatch")
    return Envelope(
        id=attributes.id,
        sequence=_sequence(attributes.sequence),
        time=attributes.time,
        correlation_id=attributes.correlation_id,
        traceparent=attributes.traceparent,
        causation_id=attributes.causation_id,
        data=data,
    )


def peek_type(record: Record) -> str | None:
    """`ce_type`, without decoding the rest; None when it is missing or empty."""
    return peek(record, "ce_type")


def peek(record: Record, header: str) -> str | None:
    for name, value in record.headers:
        if name == header:
            return value.decode("ascii", "replace") if value else None
    return None


class Attributes(NamedTuple):
    """The attributes that messaging uses, as written in the headers."""

    id: str
    subject: str
    time: datetime
    sequence: str
    correlation_id: str
    traceparent: str
    causation_id: str | None


def as_we_write(headers: tuple[tuple[str, bytes], ...]) -> Attributes | None:
    """The attributes, if the headers are exactly those that `encode` writes; else None, and the library must
    parse them.

    The library took a fifth of a consumer's time per event. tests/contracts compare this function with it.
    """
    names = tuple([name for name, _ in headers])
    if names[:_COUNT] != _NAMES or names[_COUNT:] not in _CAUSED:
        return None
    try:
        values = [value.decode() for _, value in headers]
        if not all(values) or values[0] != "1.0" or not _TIME.fullmatch(values[5]):
            return None
        time = datetime.fromisoformat(values[5])
    except (AttributeError, ValueError):  # null, not UTF-8, or an impossible date
        return None
    causation = values[_COUNT] if len(values) > _COUNT else None
    return Attributes(values[1], values[4], time, values[7], values[8], values[9], causation)


def by_the_library(headers: tuple[tuple[str, bytes], ...], value: bytes) -> Attributes:
    """The attributes, parsed by the CloudEvents library.

    Raises: `PermanentError` with the reason `not_a_cloudevent`.
    """
    names = {name for name, _ in headers}
    if not names >= REQUIRED_HEADERS:  # the library would invent an id and a time
        raise PermanentError("not_a_cloudevent", "missing " + min(REQUIRED_HEADERS - names))
    try:
        event = from_binary(KafkaMessage(dict(headers), None, value), RAW_JSON, CloudEvent)
        if not isinstance(event, CloudEvent):
            raise PermanentError("not_a_cloudevent", "version")
    except (CloudEventValidationError, ValueError, AttributeError, OverflowError) as error:
        raise PermanentError("not_a_cloudevent", type(error).__name__) from error
    return Attributes(
        id=event.get_id(),
        subject=event.get_subject() or "",
        time=event.get_attributes()["time"],
        sequence=event.get_extension("sequence") or "",
        correlation_id=event.get_extension("correlationid") or "",
        traceparent=event.get_extension("traceparent") or "",
        causation_id=event.get_extension("causationid"),
    )


def _sequence(text: str) -> int:
    # int() also accepts "१" and " 1"; the contract requires plain digits, and MongoDB stores 63 bits.
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 18 and int(text) >= 1):
        raise PermanentError("not_a_cloudevent", "sequence")
    return int(text)
