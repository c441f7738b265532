"""Items: what a consumer makes of the records of a batch before anything is applied."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import BY_TYPE
from services.shared.eventkit.broker import Partition, Record
from services.shared.eventkit.codec import decode, peek_type
from services.shared.eventkit.dead_letters import letter_id
from services.shared.eventkit.errors import describe
from services.shared.tracing import Span

NEWER_VERSION = re.compile(r"^(?P<base>.+)\.v[1-9]\d{0,3}$")


@dataclass(frozen=True, slots=True)
class Item:
    """A record and what became of it: an envelope, or the reason why there is none."""

    record: Record
    envelope: Envelope[Event] | None = None
    reason: str = ""
    detail: str = ""
    span: Span | None = None
    """Its handling, when its trace is recorded."""

    @property
    def inbox_id(self) -> str:
        # An undecodable record's ce_id cannot be trusted: it could be that of a good event.
        return self.envelope.id if self.envelope else letter_id(self.record)

    def under(self, span: Span | None) -> Item:
        """The same, so that what its handler stages is caused by `span`."""
        if span is None or self.envelope is None:
            return self
        return replace(self, envelope=replace(self.envelope, traceparent=span.traceparent), span=span)


def ignored_as(record: Record, handled: Container[type[Event]]) -> str | None:
    """The name under which a record is counted that is not ours to handle; None when it is."""
    name = peek_type(record) or ""
    known = BY_TYPE.get(name)
    if known is not None:
        return None if known in handled else known.event_type
    # A newer version is published beside the old one, which says the same to us.
    newer = NEWER_VERSION.match(name)
    return "newer_version" if newer and newer["base"] in BY_TYPE else None


def read(record: Record) -> Item:
    """The event in a record, or why there is none."""
    try:
        return Item(record, decode(record))
    except Exception as error:
        reason, detail = describe(error)
        return Item(record, None, "undecodable" if reason == "handler_error" else reason, detail)


def first_offsets(records: Sequence[Record]) -> dict[Partition, int]:
    """Of each partition, where the batch begins."""
    first: dict[Partition, int] = {}
    for record in records:
        first.setdefault(record.partition, record.offset)
    return first
