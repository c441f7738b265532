"""Envelope <-> CloudEvents 1.0 in Kafka binary content mode: attributes in `ce_*` headers, data alone in the value."""

from __future__ import annotations

from typing import Any, Final

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import BY_TYPE
from services.shared.eventkit.broker import Message, Record
from services.shared.eventkit.errors import PermanentError

CONTENT_TYPE: Final = b"application/json"
MAX_VALUE_BYTES: Final = 256 * 1024
"""No event of ours comes near; a larger value is somebody's mistake and is not parsed."""

REQUIRED_HEADERS: Final = frozenset(
    {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_sequence"}
)


class RawJson(JSONFormat):
    """The data stays JSON bytes: pydantic writes and reads it faster than a dict between would."""

    def write_data(self, data: Any, datacontenttype: str | None) -> bytes:
        return bytes(data)

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body


RAW_JSON: Final = RawJson()


def encode(envelope: Envelope[Event]) -> Message:
    """The Kafka message of an event; its key is the subject.

    The headers are written out here because this is on the path of every POST: the library validates each attribute
    again, which took three quarters of the time. tests/contracts hold this to the library's own `to_binary`.
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

    Raises: `PermanentError` with the reason `unknown_type`, `too_large`, `not_a_cloudevent` or `key_mismatch`;
    `pydantic.ValidationError` when the data does not fit the contract.
    """
    kind = BY_TYPE.get(peek_type(record) or "")
    if kind is None:
        raise PermanentError("unknown_type")
    if record.value is None or len(record.value) > MAX_VALUE_BYTES:
        raise PermanentError("too_large" if record.value else "not_a_cloudevent")
    event = _parse(record.headers, record.value)
    data = kind.model_validate_json(record.value)
    if data.subject != event.get_subject() or record.key != data.subject.encode():
        raise PermanentError("key_mismatch")
    return Envelope(
        id=event.get_id(),
        sequence=_sequence(event),
        time=event.get_attributes()["time"],
        correlation_id=event.get_extension("correlationid") or "",
        traceparent=event.get_extension("traceparent") or "",
        causation_id=event.get_extension("causationid"),
        data=data,
    )


def peek_type(record: Record) -> str | None:
    """`ce_type` without decoding the rest; None when it is missing or is no text."""
    return peek(record, "ce_type")


def peek(record: Record, header: str) -> str | None:
    for name, value in record.headers:
        if name == header:
            return value.decode("ascii", "replace") if value else None
    return None


def _parse(headers: tuple[tuple[str, bytes], ...], value: bytes) -> CloudEvent:
    names = {name for name, _ in headers}
    if not names >= REQUIRED_HEADERS:  # the library would make up an id and a time
        raise PermanentError("not_a_cloudevent", "missing " + min(REQUIRED_HEADERS - names))
    try:
        event = from_binary(KafkaMessage(dict(headers), None, value), RAW_JSON, CloudEvent)
        if not isinstance(event, CloudEvent):
            raise PermanentError("not_a_cloudevent", "version")
    except (CloudEventValidationError, ValueError, AttributeError, OverflowError) as error:
        raise PermanentError("not_a_cloudevent", type(error).__name__) from error
    return event


def _sequence(event: CloudEvent) -> int:
    text = event.get_extension("sequence") or ""
    # int() also takes "१" and " 1"; the contract says plain digits, and MongoDB holds 63 bits.
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 18 and int(text) >= 1):
        raise PermanentError("not_a_cloudevent", "sequence")
    return int(text)
