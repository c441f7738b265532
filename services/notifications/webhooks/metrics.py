"""Metrics of callbacks. Every label has a closed list of values."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

KINDS: Final = ("report", "inbound", "identity", "preference", "notice")
OUTCOMES: Final = ("applied", "nothing_new", "parked")
RECEIVED: Final = ("stored", "repeated", "refused")
UNREADABLE: Final = "unreadable"
NOT_APPLIED: Final = "not_applied"


class WebhookMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "sangathan_callbacks",
            f"Callbacks of providers, by outcome ({', '.join(RECEIVED)}).",
            ["outcome"],
            registry=registry,
        )
        self.updates = Counter(
            "sangathan_updates",
            f"What callbacks told, by kind ({', '.join(KINDS)}) and outcome ({', '.join(OUTCOMES)}).",
            ["kind", "outcome"],
            registry=registry,
        )
        self.buried = Counter(
            "sangathan_callbacks_buried",
            f"Callbacks set aside, by reason ({UNREADABLE}: not of this provider; "
            f"{NOT_APPLIED}: a part of it could not be applied).",
            ["reason"],
            registry=registry,
        )
        self.given_up = Counter(
            "sangathan_reports_given_up",
            "Reports about a message that is unknown here, dropped after a day.",
            registry=registry,
        )
        self.conflicts = Counter(
            "sangathan_identity_conflicts",
            "Ids or numbers of a channel that seem to be of two members, and were given to neither.",
            registry=registry,
        )
        self.waiting = Gauge(
            "sangathan_callbacks_waiting", "Stored callbacks that are not applied.", registry=registry
        )
        self.oldest = Gauge(
            "sangathan_callbacks_oldest_age_seconds",
            "Age of the oldest of those; 0 if there is none.",
            registry=registry,
        )
        self.parked = Gauge(
            "sangathan_reports_parked",
            "Reports about a message that is not known yet; they are tried again for a day.",
            registry=registry,
        )
        self.inferred = Gauge(
            "sangathan_opt_outs_inferred_waiting",
            "Opt-outs that were inferred from an error of a gateway, and that nobody has looked at.",
            registry=registry,
        )
        for outcome in RECEIVED:  # 0 from the start: `increase` does not see a series begin
            self.received.labels(outcome)
        for reason in (UNREADABLE, NOT_APPLIED):
            self.buried.labels(reason)
