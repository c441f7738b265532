"""Metrics of the notifications service. Every label has a closed list of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.notifications.core.domain import Notification
from services.notifications.core.suppressions.domain import VIAS
from services.shared.contracts.vocabulary import Channel
from services.shared.messaging import SIZES
from services.shared.peers import peer_errors, token_expiry

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
GATEWAYS = ("whatsapp", "exotel", "smtp")
BREAKER_KINDS = ("template", "number", "account")
DEFERRED_FOR = ("quiet_hours", "frequency_cap", "pair_rate", "budget", "breaker")
OTHER = "other"
"""A channel that is tried again later, as for a limit of messages to one person."""
HELD_FOR = (
    *("no_address", "no_gateway", "no_group", "no_invite", "outcome", "nothing"),
    *("template_not_approved", "template_not_exact"),
    *DEFERRED_FOR,
    OTHER,
)
ISOLATED = (
    *("peer_refused", "peer_timeout", "peer_answer", "unknown_member"),
    *("composing_error", "sender_error", "unrecordable"),
)


class NotificationMetrics:
    """Registered once in the registry of its service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.transitions = Counter(
            "sangathan_notifications_transitions",
            "Notifications that entered a state (queued, sending, sent, failed, suppressed), "
            "with the reason if any.",
            ["state", "reason"],
            registry=registry,
        )
        self.held = Gauge(
            "sangathan_notifications_held",
            "Unfinished notifications by the event that is missing, or the rule that defers them "
            "(nothing: they are due, or tried again).",
            ["reason"],
            registry=registry,
        )
        self.held_age = Gauge(
            "sangathan_notifications_held_oldest_age_seconds",
            "Time since the oldest of those was queued; 0 if there is none.",
            ["reason"],
            registry=registry,
        )
        self.token_expiry = token_expiry(registry)
        self.batch_size = Histogram(
            "sangathan_dispatch_batch_notifications",
            "Notifications per claimed batch.",
            buckets=SIZES,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "sangathan_dispatch_batch_seconds",
            "From a claimed batch to its recorded outcomes.",
            buckets=SECONDS,
            registry=registry,
        )
        self.attempts = Counter(
            "sangathan_notifications_attempts",
            "Messages handed to a sender, by outcome (sent, transient, permanent, unknown).",
            ["sender", "outcome"],
            registry=registry,
        )
        self.postponed = Counter(
            "sangathan_dispatch_postponed",
            "Claimed notifications put back untried, by cause (peer, gate, gateway).",
            ["cause"],
            registry=registry,
        )
        self.decisions = Counter(
            "sangathan_send_decisions",
            "Decisions of the send policy about notifications that were due, by verdict (send, defer, hold, "
            "suppress) and reason.",
            ["verdict", "reason"],
            registry=registry,
        )
        self.isolated = Counter(
            "sangathan_notifications_isolated",
            "Notifications with a fault of their own, which their batch went on without, by reason "
            f"({', '.join(ISOLATED)}).",
            ["reason"],
            registry=registry,
        )
        for reason in ISOLATED:  # 0 from the start: `increase` does not see a series begin
            self.isolated.labels(reason)
        self.opt_outs = Counter(
            "sangathan_opt_outs",
            f"Addresses to which messages were stopped, by channel and by how ({', '.join(VIAS)}).",
            ["channel", "via"],
            registry=registry,
        )
        for channel in Channel:
            for via in VIAS:
                self.opt_outs.labels(channel.value, via)
        self.peer_errors = peer_errors(registry)
        self.deliveries = Counter(
            "sangathan_deliveries",
            "Statuses that providers tell of messages (queued, sent, delivered, read, failed), by sender.",
            ["sender", "status"],
            registry=registry,
        )
        self.breakers_open = Gauge(
            "sangathan_breakers_open",
            "Open breakers by sender and kind (template, number, account): nothing goes by what they are of.",
            ["sender", "kind"],
            registry=registry,
        )
        self.show_breakers({}, GATEWAYS)  # also while no gateway is in use
        self.callbacks_skipped = Counter(
            "sangathan_callback_updates_skipped",
            "Updates in a provider's callbacks that are of no known kind or form.",
            ["sender"],
            registry=registry,
        )

    def entered(self, notifications: Iterable[Notification]) -> None:
        for notification in notifications:
            self.transitions.labels(notification.state.value, notification.reason or "").inc()

    def show_held(self, held: Mapping[str, tuple[int, datetime]], now: datetime) -> None:
        """`{reason: (how many, when the oldest was queued)}`"""
        others = [each for reason, each in held.items() if reason not in HELD_FOR]
        all_others = sum(count for count, _ in others), min((oldest for _, oldest in others), default=now)
        for reason in HELD_FOR:
            count, oldest = held.get(reason, all_others if reason == OTHER else (0, now))
            self.held.labels(reason).set(count)
            self.held_age.labels(reason).set(max(0.0, (now - oldest).total_seconds()))

    def show_breakers(self, opened: Mapping[tuple[str, str], int], senders: Iterable[str]) -> None:
        """`{(sender, kind): how many}`; 0 for the others."""
        for sender in senders:
            for kind in BREAKER_KINDS:
                self.breakers_open.labels(sender, kind).set(opened.get((sender, kind), 0))

    def watch_token(self, expires_at: Callable[[], float]) -> None:
        """Read at scrape time."""
        self.token_expiry.set_function(expires_at)
