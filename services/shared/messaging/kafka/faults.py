"""The meaning of aiokafka's errors: for a message that was not published, and for records that cannot be
fetched."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import BrokerResponseError as Answer
from aiokafka.errors import (
    CorruptRecordException,
    GroupAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownProducerId,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
)

from services.shared.messaging.broker import Refusal

PASSING: Final = (OutOfOrderSequenceNumber, UnknownProducerId)
"""Answers that say nothing about the message, although aiokafka does not repeat it: a new producer cures
them."""

FETCH_REASONS: Final = (
    (UnsupportedCodecError, "codec"),
    (CorruptRecordException, "corrupt"),
    (RecordTooLargeError, "too_large"),
    (OffsetOutOfRangeError, "log_gap"),
    ((TopicAuthorizationFailedError, GroupAuthorizationFailedError), "denied"),
    ((KafkaError, OSError), "broker"),
)


def refusal_of(error: Exception) -> Refusal:
    """The meaning of an error for the messages of a batch that it answers."""
    if isinstance(error, TopicAuthorizationFailedError):
        return Refusal.TOPIC_DENIED
    if isinstance(error, UnknownTopicOrPartitionError | InvalidTopicError):
        return Refusal.TOPIC_MISSING
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return Refusal.TOO_LARGE
    # An answer that aiokafka does not know, such as INVALID_RECORD, is about this batch; all else flows.
    if isinstance(error, Answer) and not error.retriable and not isinstance(error, PASSING):
        return Refusal.INVALID
    return Refusal.UNANSWERED


def fetch_reason(error: BaseException) -> str:
    """The reason of a failed fetch, one of `FETCH_FAULTS`. What is no error of the broker or of the network
    was raised while decoding, by a decompressor for example."""
    return next((reason for kinds, reason in FETCH_REASONS if isinstance(error, kinds)), "corrupt")
