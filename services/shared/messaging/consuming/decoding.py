"""Decoding: each record of a batch becomes an event, or the reason why there is none, before anything is applied."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import BY_TYPE
from services.shared.faults import describe
from services.shared.messaging.broker import Partition, Record
from services.shared.messaging.codec import decode, peek_type
from services.shared.messaging.dead_letters.store import letter_id
from services.shared.observability.tracing import Span

NEWER_VERSION = re.compile(r"^(?P<base>.+)\.v[1-9]\d{0,3}$")


@dataclass(frozen=True, slots=True)
class DecodedRecord:
    """A record with its envelope, or with the reason why there is none."""

    record: Record
    envelope: Envelope[Event] | None = None
    reason: str = ""
    detail: str = ""
    span: Span | None = None
    """The span of its handling, when its trace is recorded."""

    @property
    def inbox_id(self) -> str:
        # An undecodable record's ce_id cannot be trusted: it could be that of a good event.
        return self.envelope.id if self.envelope else letter_id(self.record)

    def under(self, span: Span | None) -> DecodedRecord:
        """The same record, so that events staged by its handler are children of `span`."""
        if span is None or self.envelope is None:
            return self
        return replace(self, envelope=replace(self.envelope, traceparent=span.traceparent), span=span)


def ignored_type(record: Record, handled: Container[type[Event]]) -> str | None:
    """The name under which a record that is not ours to handle is counted; None when it is ours."""
    name = peek_type(record) or ""
    known = BY_TYPE.get(name)
    if known is not None:
        return None if known in handled else known.event_type
    # A newer version is published beside the old one, which tells us the same.
    newer = NEWER_VERSION.match(name)
    return "newer_version" if newer and newer["base"] in BY_TYPE else None


def decode_record(record: Record) -> DecodedRecord:
    """The event in a record, or why there is none."""
    try:
        return DecodedRecord(record, decode(record))
    except Exception as error:
        reason, detail = describe(error)
        return DecodedRecord(record, None, "undecodable" if reason == "handler_error" else reason, detail)


def first_offsets(records: Sequence[Record]) -> dict[Partition, int]:
    """The offset at which the batch begins, for each partition."""
    first: dict[Partition, int] = {}
    for record in records:
        first.setdefault(record.partition, record.offset)
    return first
