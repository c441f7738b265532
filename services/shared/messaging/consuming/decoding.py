"""Decoding: turns each record of a batch into an event, or into the reason why it has none, before anything
is applied."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import BY_TYPE
from services.shared.errors import PermanentError
from services.shared.faults import describe
from services.shared.messaging.broker import Partition, Record
from services.shared.messaging.codec import UnknownTypeError, decode, peek, peek_type
from services.shared.messaging.dead_letters.store import letter_id
from services.shared.observability.tracing import Span

NEWER_VERSION = re.compile(r"^(?P<base>.+)\.v[1-9]\d{0,3}$")


class DecodedRecord(NamedTuple):
    """A record with its envelope, or with the reason why it did not decode; with both, if a handler refused
    it."""

    record: Record
    envelope: Envelope[Event] | None = None
    reason: str = ""
    detail: str = ""
    set_aside: bool = False
    """Not decoded because only a later release knows its type."""
    span: Span | None = None
    """The span of its processing, when its trace is recorded."""

    @property
    def inbox_id(self) -> str:
        # The ce_id of an undecodable record cannot be trusted: it could be the id of a good event.
        return self.envelope.id if self.envelope else letter_id(self.record)

    @property
    def is_dead(self) -> bool:
        return bool(self.reason)

    def judged(self, refused: Mapping[str, PermanentError]) -> DecodedRecord:
        """The same record, with the reason if a handler refused it."""
        error = refused.get(self.inbox_id) if self.envelope else None
        return self._replace(reason=error.reason, detail=error.detail) if error else self

    def under(self, span: Span | None) -> DecodedRecord:
        """The same record under `span`, so that events staged by its handler become children of the span."""
        if span is None or self.envelope is None:
            return self
        return self._replace(envelope=replace(self.envelope, traceparent=span.traceparent), span=span)


def ignored_type(record: Record, handled: Container[type[Event]]) -> str | None:
    """The name that counts an ignored record; None when the record is to be handled."""
    name = peek_type(record) or ""
    known = BY_TYPE.get(name)
    if known is not None:
        return None if known in handled else known.event_type
    # A newer version of a type is published beside the old one, by the same publisher, with the same fact.
    newer = NEWER_VERSION.match(name)
    base = BY_TYPE.get(newer["base"]) if newer else None
    if base and record.partition.topic == base.topic and peek(record, "ce_source") == base.source:
        return "newer_version"
    return None


def decode_record(record: Record, now: datetime) -> DecodedRecord:
    """Decode a record into its event, or into the reason why it has none. `now` is the reader's time."""
    try:
        return DecodedRecord(record, decode(record, now))
    except Exception as error:
        reason, detail = describe(error)
        if reason == "handler_error":
            reason = "undecodable"
        return DecodedRecord(record, None, reason, detail, isinstance(error, UnknownTypeError))


def first_offsets(records: Sequence[Record]) -> dict[Partition, int]:
    """The first offset of the batch in each partition."""
    first: dict[Partition, int] = {}
    for record in records:
        first.setdefault(record.partition, record.offset)
    return first
