"""Spans of an event: one for sending it, one for each consumer that processes it. Names follow
OpenTelemetry's conventions.

Both are children of the span that staged the event, so its `ce_traceparent` never changes, as the CloudEvents
extension requires. An event whose trace is not recorded costs one check of a character; with tracing off,
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.contracts.base import Envelope, Event
from services.shared.database import Document
from services.shared.messaging.broker import Record
from services.shared.observability import tracing
from services.shared.observability.correlation import is_sampled
from services.shared.observability.tracing import Attributes, Span, SpanKind


def processing(group: str, record: Record, event: Envelope[Event]) -> Span | None:
    """Begin the span of processing one event; None when its trace is not recorded."""
    if not is_sampled(event.traceparent):
        return None
    place: Attributes = {
        "messaging.consumer.group.name": group,
        "messaging.destination.partition.id": str(record.partition.number),
        "messaging.kafka.offset": record.offset,
    }
    attributes = {**_attributes("process", record.partition.topic, event.id, event.type), **place}
    return tracing.begin(f"process {event.type}", SpanKind.CONSUMER, event.traceparent, attributes)


def record_sent(rows: Sequence[Document]) -> None:
    """Record a span for each published outbox row, from staging until now."""
    if not tracing.enabled():
        return
    for row in rows:
        headers: dict[str, bytes] = row["headers"]
        parent, type_ = _text(headers, "ce_traceparent"), _text(headers, "ce_type")
        if is_sampled(parent):
            attributes = _attributes("send", row["topic"], _text(headers, "ce_id"), type_)
            span = tracing.begin(f"send {type_}", SpanKind.PRODUCER, parent, attributes, since=row["at"])
            if span:
                span.end()


def _attributes(operation: str, topic: str, id_: str, type_: str) -> Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
        "messaging.message.id": id_,
        "cloudevents.event_type": type_,
    }


def _text(headers: dict[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode("ascii", "replace")
