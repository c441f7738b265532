"""Messaging: events between services, published exactly as committed and applied exactly once. The package's
facade.

Import from here, never from inside: `publishing` (outbox, relay, group commit), `consuming` (consumer,
applier, inbox, waves, sub-batches, fuse, lag), `dead_letters` (store, replay) and `kafka` may change.
"""

from __future__ import annotations

from services.shared.messaging.bisection import bisect
from services.shared.messaging.broker import (
    PUBLISH_SECONDS,
    Backlog,
    Broker,
    Consumer,
    LogReader,
    LogSource,
    Message,
    Partition,
    Producer,
    Reading,
    RebalancedError,
    Record,
    Refusal,
    TopicSpec,
    TopicState,
)
from services.shared.messaging.codec import decode, encode
from services.shared.messaging.consuming.applier import Applier, Handler, Subscriptions
from services.shared.messaging.consuming.consumer import BatchConsumer
from services.shared.messaging.consuming.decoding import decode_record, ignored_type
from services.shared.messaging.consuming.fuse import Fuse
from services.shared.messaging.consuming.inbox import Inbox
from services.shared.messaging.consuming.leaps import MAX_LEAP, is_leap, leap_error, newer, without_leaps
from services.shared.messaging.consuming.sub_batches import Affinity, Splitter
from services.shared.messaging.consuming.waves import waves
from services.shared.messaging.dead_letters.replay import Replayer
from services.shared.messaging.dead_letters.set_aside import SetAside
from services.shared.messaging.dead_letters.store import DeadLetters, Filter, Place, letter_id, place_of
from services.shared.messaging.erasing import forget_letters
from services.shared.messaging.kafka.admin import create_topics, describe_topics
from services.shared.messaging.kafka.client import KafkaBroker
from services.shared.messaging.metrics import SECONDS, SIZES, BrokerMetrics, MessagingMetrics
from services.shared.messaging.migrations import MIGRATIONS
from services.shared.messaging.publishing.group_commit import GroupCommit
from services.shared.messaging.publishing.outbox import Origin, Outbox, UnitOfWork
from services.shared.messaging.publishing.relay import Relay

__all__ = [
    "MAX_LEAP",
    "MIGRATIONS",
    "PUBLISH_SECONDS",
    "SECONDS",
    "SIZES",
    "Affinity",
    "Applier",
    "Backlog",
    "BatchConsumer",
    "Broker",
    "BrokerMetrics",
    "Consumer",
    "DeadLetters",
    "Filter",
    "Fuse",
    "GroupCommit",
    "Handler",
    "Inbox",
    "KafkaBroker",
    "LogReader",
    "LogSource",
    "Message",
    "MessagingMetrics",
    "Origin",
    "Outbox",
    "Partition",
    "Place",
    "Producer",
    "Reading",
    "RebalancedError",
    "Record",
    "Refusal",
    "Relay",
    "Replayer",
    "SetAside",
    "Splitter",
    "Subscriptions",
    "TopicSpec",
    "TopicState",
    "UnitOfWork",
    "bisect",
    "create_topics",
    "decode",
    "decode_record",
    "describe_topics",
    "encode",
    "forget_letters",
    "ignored_type",
    "is_leap",
    "leap_error",
    "letter_id",
    "newer",
    "place_of",
    "waves",
    "without_leaps",
]
