"""The path of an event through the whole system: one row per hop."""

from __future__ import annotations

from infra.grafana.panels import Query, Rows, board, lines, percentiles, quantile, rate

JOINING = 'service="members", method="POST", route="/v1/members"'
EVERYWHERE = 'unit="*"'

ROWS: Rows = {
    "1 POST /v1/members": [
        lines(
            "Answers",
            "reqps",
            Query(rate("sangathan_http_requests_total", "status", JOINING), "{{status}}"),
        ),
        lines("Duration", "s", *percentiles("sangathan_http_request_seconds", JOINING)),
        lines(
            "Members registered",
            "ops",
            Query(rate("sangathan_members_registrations_total", "outcome"), "{{outcome}}"),
        ),
    ],
    "2 Outbox": [
        lines("Rows", "short", Query("max by (service) (sangathan_outbox_rows)", "{{service}}")),
        lines(
            "Age of the oldest",
            "s",
            Query("max by (service) (sangathan_outbox_oldest_age_seconds)", "{{service}}"),
        ),
    ],
    "3 Relay": [
        lines("Published", "ops", Query(rate("sangathan_relay_published_total", "topic"), "{{topic}}")),
        lines(
            "Failed batches",
            "ops",
            Query(rate("sangathan_relay_errors_total", "service"), "{{service}}"),
        ),
        lines(
            "Leaders",
            "short",
            Query("sum by (service) (sangathan_relay_leader)", "{{service}}"),
            about="One per service. None: nothing is published.",
        ),
    ],
    "4 Topics": [
        lines(
            "Lag in records",
            "short",
            Query("sum by (service, topic) (sangathan_consumer_lag_records)", "{{service}} of {{topic}}"),
        ),
        lines(
            "Lag in seconds",
            "s",
            Query("max by (service, topic) (sangathan_consumer_lag_seconds)", "{{service}} of {{topic}}"),
        ),
        lines(
            "Partitions assigned",
            "short",
            Query("sum by (service) (sangathan_consumer_assigned_partitions)", "{{service}}"),
        ),
    ],
    "5 Consumers": [
        lines(
            "Events",
            "ops",
            Query(rate("sangathan_consumer_events_total", "service, outcome"), "{{service}} {{outcome}}"),
        ),
        lines(
            "Duration of a batch, p99",
            "s",
            Query(quantile(0.99, "sangathan_consumer_batch_seconds", "service"), "{{service}}"),
        ),
        lines(
            "Dead letters open",
            "short",
            Query("max by (service) (sangathan_dead_letters_open)", "{{service}}"),
        ),
        lines("Fuse open", "short", Query("max by (service) (sangathan_fuse_open)", "{{service}}")),
    ],
    "6 Effects": [
        lines("Placements", "ops", Query(rate("sangathan_placements_total", "outcome"), "{{outcome}}")),
        lines(
            "From event to effect, p99",
            "s",
            Query(quantile(0.99, "sangathan_consumer_delay_seconds", "service"), "{{service}}"),
        ),
        lines(
            "Members waiting for a unit",
            "short",
            Query("max(sangathan_members_waiting_for_unit)", "waiting"),
        ),
    ],
    "7 Welcomes": [
        lines(
            "Entered a state",
            "ops",
            Query(rate("sangathan_notifications_transitions_total", "state"), "{{state}}"),
        ),
        lines(
            "Handed to senders",
            "ops",
            Query(rate("sangathan_notifications_attempts_total", "outcome"), "{{outcome}}"),
        ),
        lines("Held", "short", Query("max by (reason) (sangathan_notifications_held)", "{{reason}}")),
    ],
    "8 Counted": [
        lines(
            "The books",
            "short",
            Query(f"sum(max by (gender) (sangathan_members{{{EVERYWHERE}}}))", "members"),
            Query(f"max(sangathan_seats_taken{{{EVERYWHERE}}})", "placements"),
            Query(
                f'sum(max by (state) (sangathan_welcomes{{{EVERYWHERE},state!="queued"}}))',
                "welcomes settled",
            ),
            about="The lines meet when nothing is on its way.",
        ),
        lines(
            "From event to figure",
            "s",
            *percentiles("sangathan_consumer_delay_seconds", 'service="analytics"'),
        ),
    ],
}

OVERVIEW = board(
    "sangathan-overview",
    "Sangathan: the path of a member",
    "From POST /v1/members to the last figure that counts the member; one row per hop, in order.",
    ROWS,
)
