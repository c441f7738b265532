"""One dashboard per service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.models import dashboard as models

from infra.composed import composed_services
from infra.grafana.panels import Panel, Query, Rows, board, figure, lines, percentiles, quantile, rate

SERVICES = composed_services()


def board_of(name: str) -> models.Dashboard:
    """The service's own rows first, then the rows that every service has."""
    mine = f'service="{name}"'
    service = SERVICES[name]
    rows: dict[str, Sequence[Panel]] = {**OWN[name], **_requests(mine), **_publishing(mine)}
    if service.consumer:
        rows.update(_consuming(mine))
    works = any(feature.jobs for feature in service.features)
    return board(
        f"sangathan-{name}",
        f"Sangathan: {name}",
        f"The service {name}.",
        {**rows, **_jobs(mine, works=works), **_process(mine, name)},
    )


def _requests(mine: str) -> Rows:
    return {
        "Requests": [
            lines(
                "Answers", "reqps", Query(rate("sangathan_http_requests_total", "status", mine), "{{status}}")
            ),
            lines("Duration", "s", *percentiles("sangathan_http_request_seconds", mine)),
            lines(
                "Duration by route, p99",
                "s",
                Query(
                    quantile(0.99, "sangathan_http_request_seconds", "method, route", mine),
                    "{{method}} {{route}}",
                ),
            ),
            lines(
                "In flight, and shed a second",
                "short",
                Query(f"sum(sangathan_http_requests_in_flight{{{mine}}})", "in flight"),
                Query(rate("sangathan_http_requests_shed_total", where=mine), "shed"),
                Query(rate("sangathan_http_refused_total", "reason", mine), "refused: {{reason}}"),
            ),
        ]
    }


def _publishing(mine: str) -> Rows:
    return {
        "Outbox and relay": [
            lines("Rows", "short", Query(f"max(sangathan_outbox_rows{{{mine}}})", "rows")),
            lines(
                "Age of the oldest",
                "s",
                Query(f"max(sangathan_outbox_oldest_age_seconds{{{mine}}})", "oldest"),
            ),
            lines(
                "Published",
                "ops",
                Query(rate("sangathan_relay_published_total", "topic", mine), "{{topic}}"),
                Query(rate("sangathan_relay_errors_total", where=mine), "failed batches"),
            ),
            lines(
                "Set aside",
                "short",
                Query(
                    f"max by (topic, reason) (sangathan_relay_set_aside_rows{{{mine}}})",
                    "{{topic}} {{reason}}",
                ),
            ),
        ],
        "Broker": [
            lines(
                "Since its last answer",
                "s",
                Query(
                    f"time() - max by (call) (sangathan_broker_last_answer_timestamp_seconds{{{mine}}})",
                    "{{call}}",
                ),
            ),
            lines(
                "Calls repeated",
                "ops",
                Query(rate("sangathan_broker_errors_total", "call", mine), "{{call}}"),
            ),
        ],
    }


def _jobs(mine: str, *, works: bool) -> Rows:
    """The jobs of a service; how long their steps take only if it `works` at any kind."""
    duration = lines("Duration of a step", "s", *percentiles("sangathan_job_step_seconds", mine))
    return {
        "Jobs": [
            lines(
                "Jobs",
                "short",
                Query(f"max by (kind, state) (sangathan_jobs{{{mine}}})", "{{kind}} {{state}}"),
            ),
            lines(
                "Without progress, and unclaimed",
                "s",
                Query(f"max by (kind) (sangathan_jobs_unprogressed_seconds{{{mine}}})", "{{kind}} no step"),
                Query(f"max by (kind) (sangathan_jobs_oldest_due_age_seconds{{{mine}}})", "{{kind}} due"),
            ),
            lines(
                "Progress of the slowest",
                "percentunit",
                Query(f"max by (kind) (sangathan_jobs_progress_ratio{{{mine}}})", "{{kind}}"),
            ),
            lines(
                "Steps",
                "ops",
                Query(rate("sangathan_job_steps_total", "kind, outcome", mine), "{{kind}} {{outcome}}"),
            ),
            *([duration] if works else []),
        ]
    }


def _consuming(mine: str) -> Rows:
    return {
        "Consumer": [
            lines(
                "Lag in records",
                "short",
                Query(f"sum by (topic) (sangathan_consumer_lag_records{{{mine}}})", "{{topic}}"),
            ),
            lines(
                "Lag in seconds",
                "s",
                Query(f"max by (topic) (sangathan_consumer_lag_seconds{{{mine}}})", "{{topic}}"),
            ),
            lines(
                "Since offsets were last committed",
                "s",
                Query(
                    f"time() - (sangathan_consumer_last_progress_timestamp_seconds{{{mine}}} > 0)",
                    "{{instance}}",
                ),
                about="Also grows while there is nothing to do: compare with the lag.",
            ),
            lines(
                "Partitions assigned",
                "short",
                Query(f"sangathan_consumer_assigned_partitions{{{mine}}}", "{{instance}}"),
                Query(f"max(sangathan_consumer_topic_partitions{{{mine}}})", "in total"),
            ),
            lines(
                "Partitions stopped",
                "short",
                Query(
                    f"sum by (topic, reason) (sangathan_consumer_stopped_partitions{{{mine}}})",
                    "{{topic}} {{reason}}",
                ),
            ),
            lines(
                "Fetches failed, and records lost",
                "short",
                Query(rate("sangathan_consumer_fetch_errors_total", "reason", mine), "{{reason}} a second"),
                Query(f"sum by (topic) (sangathan_log_gap_records_total{{{mine}}})", "{{topic}} lost"),
            ),
        ],
        "Batches": [
            lines(
                "Events",
                "ops",
                Query(rate("sangathan_consumer_events_total", "type, outcome", mine), "{{type}} {{outcome}}"),
            ),
            lines("Records in a batch", "short", *percentiles("sangathan_consumer_batch_records", mine)),
            lines("Duration", "s", *percentiles("sangathan_consumer_batch_seconds", mine)),
            lines("From event to effect", "s", *percentiles("sangathan_consumer_delay_seconds", mine)),
        ],
        "Trouble": [
            lines(
                "Retries",
                "ops",
                Query(rate("sangathan_consumer_retries_total", "family", mine), "{{family}}"),
            ),
            lines(
                "Dead letters",
                "short",
                Query(f"max(sangathan_dead_letters_open{{{mine}}})", "open"),
                Query(f"max(sangathan_set_aside_open{{{mine}}})", "set aside"),
                Query(rate("sangathan_dead_letters_total", "reason", mine), "{{reason}} a second"),
                Query(rate("sangathan_dead_letters_settled_total", "how", mine), "{{how}} a second"),
            ),
            lines("Fuse open", "short", Query(f"max(sangathan_fuse_open{{{mine}}})", "open")),
            lines(
                "Rebalances",
                "short",
                Query(f"sum(increase(sangathan_consumer_rebalances_total{{{mine}}}[10m]))", "in ten minutes"),
            ),
        ],
    }


def _process(mine: str, name: str) -> Rows:
    return {
        "MongoDB": [
            lines(
                "Connections",
                "short",
                Query(f"sum by (state) (sangathan_mongo_pool_connections{{{mine}}})", "{{state}}"),
                Query(f"max(sangathan_mongo_pool_max_connections{{{mine}}})", "limit"),
            ),
            lines("Wait for a connection", "s", *percentiles("sangathan_mongo_pool_wait_seconds", mine)),
            lines(
                "Transaction retries",
                "ops",
                Query(rate("sangathan_mongo_transaction_retries_total", where=mine), "retries"),
                Query(rate("sangathan_mongo_pool_checkout_failures_total", "reason", mine), "{{reason}}"),
            ),
            lines(
                "Oplog window",
                "s",
                Query(
                    f"min by (replica_set) (sangathan_mongo_oplog_window_seconds{{{mine}}})",
                    "{{replica_set}}",
                ),
                about="Absent where the service may not read the oplog.",
            ),
            lines(
                "Clock ahead of MongoDB's",
                "s",
                Query(f"max by (instance) (sangathan_clock_skew_seconds{{{mine}}})", "{{instance}}"),
            ),
        ],
        "Process": [
            lines(
                "Processor",
                "percentunit",
                Query(f"rate(process_cpu_seconds_total{{{mine}}}[$__rate_interval])", "{{instance}}"),
            ),
            lines("Memory", "bytes", Query(f"process_resident_memory_bytes{{{mine}}}", "{{instance}}")),
            lines("Open files", "short", Query(f"process_open_fds{{{mine}}}", "{{instance}}")),
            lines(
                "Loops restarted",
                "ops",
                Query(rate("sangathan_loop_restarts_total", "loop", mine), "{{loop}}"),
            ),
            lines(
                "Key set or revoked tokens unreadable",
                "short",
                Query(f"sangathan_auth_keys_unreadable{{{mine}}}", "{{instance}} keys"),
                Query(f"sangathan_auth_revocations_unreadable{{{mine}}}", "{{instance}} revoked"),
            ),
            lines(
                "Age of the key set", "s", Query(f"sangathan_auth_keys_age_seconds{{{mine}}}", "{{instance}}")
            ),
            lines(
                "Revoked tokens",
                "short",
                Query(f"sangathan_auth_revocations{{{mine}}}", "{{instance}} listed"),
                Query(
                    f"increase(sangathan_auth_tokens_revoked_total{{{mine}}}[1h])",
                    "{{instance}} refused in 1 h",
                ),
            ),
            figure(
                "Processes by version",
                "short",
                Query(f"count by (version) (sangathan_build_info{{{mine}}})", f"{name} {{{{version}}}}"),
            ),
        ],
    }


def _age_of_key(mine: str) -> Panel:
    made = f"max(sangathan_vault_key_created_timestamp_seconds{{{mine}}})"
    return figure("Age of the data key", "s", Query(f"time() - ({made} > 0)", "age"))


OWN: Mapping[str, Rows] = {
    "members": {
        "Membership": [
            lines(
                "Registrations",
                "ops",
                Query(rate("sangathan_members_registrations_total", "outcome"), "{{outcome}}"),
            ),
            lines("Changes", "ops", Query(rate("sangathan_members_changes_total", "change"), "{{change}}")),
            lines(
                "Consents given and withdrawn",
                "ops",
                Query(rate("sangathan_members_consents_total", "purpose, state"), "{{purpose}} {{state}}"),
            ),
            figure(
                "Roles: longest overdue",
                "s",
                Query("max(sangathan_members_roles_overdue_seconds)", "overdue"),
            ),
            figure(
                "Erasures: longest late",
                "s",
                Query("max(sangathan_members_erasures_overdue_seconds)", "late"),
            ),
            lines(
                "Erasures",
                "ops",
                Query(rate("sangathan_members_erasures_total", "step"), "{{step}}"),
                Query(rate("sangathan_members_left_contacts_dropped_total"), "contacts of those who left"),
            ),
            lines(
                "Merges of members",
                "ops",
                Query(rate("sangathan_members_merges_total", "change"), "{{change}}"),
            ),
            figure(
                "Suspected duplicates",
                "short",
                Query("max(sangathan_members_duplicates_open)", "open"),
            ),
            figure(
                "Look for duplicates: stuck",
                "s",
                Query("max(sangathan_members_duplicates_stuck_seconds)", "stuck"),
            ),
            figure(
                "Incidents: least time left",
                "s",
                Query("min(sangathan_members_incident_clock_seconds)", "left"),
            ),
            figure(
                "Grievances overdue", "short", Query("max(sangathan_members_grievances_overdue)", "overdue")
            ),
            lines(
                "Other services that do not tell what they hold",
                "ops",
                Query(rate("sangathan_peer_errors_total", "peer"), "{{peer}} did not answer"),
            ),
            figure(
                "The token for dossiers expires in",
                "s",
                Query("min(sangathan_service_token_expiry_timestamp_seconds) - time()", "left"),
            ),
            lines(
                "Rows of imports",
                "ops",
                Query(rate("sangathan_members_import_rows_total", "outcome"), "{{outcome}}"),
            ),
            lines(
                "Contacts shown",
                "ops",
                Query(rate("sangathan_members_contacts_shown_total", "via"), "{{via}}"),
            ),
            lines(
                "Callers told of a taken phone",
                "ops",
                Query(rate("sangathan_members_phones_confirmed_total", "via"), "{{via}}"),
                Query(rate("sangathan_members_phones_limited_total"), "refused"),
            ),
            lines(
                "Members in units that were split",
                "short",
                Query("max(sangathan_members_unmapped)", "not mapped to a part"),
            ),
            lines(
                "Numbers of rosters",
                "ops",
                Query(rate("sangathan_members_phones_matched_total", "outcome"), "{{outcome}}"),
            ),
            lines(
                "Members of an earlier release made searchable",
                "ops",
                Query(rate("sangathan_members_search_fields_refreshed_total"), "members"),
            ),
            lines(
                "Requests in a transaction",
                "short",
                *percentiles("sangathan_group_commit_writes", 'service="members"'),
            ),
            _age_of_key('service="members"'),
        ]
    },
    "groups": {
        "Placement": [
            lines("Placements", "ops", Query(rate("sangathan_placements_total", "outcome"), "{{outcome}}")),
            lines("Groups created", "ops", Query(rate("sangathan_groups_created_total"), "created")),
            lines(
                "Units written", "ops", Query(rate("sangathan_units_written_total", "outcome"), "{{outcome}}")
            ),
            lines(
                "Members waiting for a unit",
                "short",
                Query("max(sangathan_members_waiting_for_unit)", "waiting"),
            ),
            lines(
                "The first of them has waited",
                "s",
                Query("max(sangathan_members_waiting_for_unit_oldest_age_seconds)", "for"),
            ),
            lines(
                "Placements that differ from the policy",
                "short",
                Query("max by (cause) (sangathan_placement_drift)", "{{cause}}"),
            ),
        ],
        "Who is in the groups": [
            lines(
                "Members, where they should be or not",
                "short",
                Query("max by (cause) (sangathan_drifting_members)", "{{cause}}"),
            ),
            lines("Rosters", "ops", Query(rate("sangathan_rosters_total", "outcome"), "{{outcome}}")),
            lines(
                "Came and left, by rosters",
                "ops",
                Query(rate("sangathan_members_observed_total", "state"), "{{state}}"),
            ),
            lines("Invited again", "ops", Query(rate("sangathan_reinvites_total", "cause"), "{{cause}}")),
            lines(
                "The first to be invited again has been due",
                "s",
                Query("max(sangathan_reinvites_oldest_due_age_seconds)", "for"),
            ),
            lines(
                "Groups that lack something",
                "short",
                Query("max by (problem) (sangathan_groups_with_gaps)", "{{problem}}"),
                Query("max(sangathan_groups_unobserved)", "no roster for a month"),
            ),
            lines(
                "Links of an earlier release sealed",
                "ops",
                Query(rate("sangathan_invite_links_sealed_total"), "links"),
            ),
            lines(
                "Calls to other services given up",
                "ops",
                Query(rate("sangathan_peer_errors_total", "peer"), "{{peer}}"),
            ),
            lines(
                "Time left of the service token",
                "s",
                Query("min(sangathan_service_token_expiry_timestamp_seconds) - time()", "left"),
            ),
            _age_of_key('service="groups"'),
        ],
    },
    "notifications": {
        "Welcomes": [
            lines(
                "Entered a state",
                "ops",
                Query(
                    rate("sangathan_notifications_transitions_total", "state, reason"), "{{state}} {{reason}}"
                ),
            ),
            lines("Held", "short", Query("max by (reason) (sangathan_notifications_held)", "{{reason}}")),
            lines(
                "Held longest",
                "s",
                Query("max by (reason) (sangathan_notifications_held_oldest_age_seconds)", "{{reason}}"),
            ),
            lines(
                "Decisions of the send policy",
                "ops",
                Query(rate("sangathan_send_decisions_total", "verdict, reason"), "{{verdict}} {{reason}}"),
            ),
            lines(
                "Handed to senders",
                "ops",
                Query(
                    rate("sangathan_notifications_attempts_total", "sender, outcome"),
                    "{{sender}} {{outcome}}",
                ),
            ),
        ],
        "Gateways": [
            lines(
                "Told by gateways",
                "ops",
                Query(rate("sangathan_deliveries_total", "sender, status"), "{{sender}} {{status}}"),
                Query(
                    rate("sangathan_callback_updates_skipped_total", "sender"), "{{sender}} not understood"
                ),
            ),
            lines(
                "Open breakers",
                "short",
                Query("max by (sender, kind) (sangathan_breakers_open)", "{{sender}} {{kind}}"),
            ),
        ],
        "Dispatch": [
            lines("Duration of a batch", "s", *percentiles("sangathan_dispatch_batch_seconds")),
            lines(
                "Notifications in a batch", "short", *percentiles("sangathan_dispatch_batch_notifications")
            ),
            lines(
                "Postponed", "ops", Query(rate("sangathan_dispatch_postponed_total", "cause"), "{{cause}}")
            ),
            lines(
                "Kept back alone, and failed calls",
                "ops",
                Query(rate("sangathan_notifications_isolated_total", "reason"), "{{reason}}"),
                Query(rate("sangathan_peer_errors_total", "peer"), "{{peer}} did not answer"),
            ),
            figure(
                "Service token expires in",
                "s",
                Query("min(sangathan_service_token_expiry_timestamp_seconds) - time()", "left"),
            ),
            lines(
                "Callbacks received, and set aside",
                "ops",
                Query(rate("sangathan_callbacks_total", "outcome"), "{{outcome}}"),
                Query(rate("sangathan_callbacks_buried_total", "reason"), "set aside: {{reason}}"),
                Query(rate("sangathan_reports_given_up_total"), "reports given up"),
            ),
            lines(
                "Updates applied",
                "ops",
                Query(rate("sangathan_updates_total", "kind, outcome"), "{{kind}}: {{outcome}}"),
                Query(rate("sangathan_identity_conflicts_total"), "identities of two members"),
            ),
            lines(
                "Callbacks and reports that wait",
                "short",
                Query("max(sangathan_callbacks_waiting)", "callbacks"),
                Query("max(sangathan_reports_parked)", "reports of unknown messages"),
                Query("max(sangathan_opt_outs_inferred_waiting)", "inferred opt-outs"),
            ),
            lines(
                "Age of the oldest callback",
                "s",
                Query("max(sangathan_callbacks_oldest_age_seconds)", "oldest"),
            ),
            lines(
                "Opt-outs",
                "ops",
                Query(rate("sangathan_opt_outs_total", "channel, via"), "{{channel}}: {{via}}"),
            ),
            _age_of_key('service="notifications"'),
        ],
    },
    "analytics": {
        "Projections": [
            lines(
                "Units with figures",
                "short",
                Query("count(max by (unit) (sangathan_seats))", "states, districts and the total"),
            ),
            lines(
                "Welcomes by state",
                "short",
                Query('max by (state) (sangathan_welcomes{unit="*"})', "{{state}}"),
            ),
        ],
        "Builds of projections": [
            lines(
                "Version that is live, and wanted",
                "short",
                Query("max by (projection) (sangathan_projection_version)", "{{projection}}"),
                Query("max by (projection) (sangathan_projection_wanted_version)", "{{projection}} wanted"),
            ),
            lines(
                "Progress",
                "percentunit",
                Query("min by (projection) (sangathan_projection_build_progress_ratio)", "{{projection}}"),
            ),
            lines(
                "Without progress",
                "s",
                Query("max by (projection) (sangathan_projection_build_stalled_seconds)", "{{projection}}"),
            ),
            lines(
                "Since it was swapped in",
                "s",
                Query("max by (projection) (sangathan_projection_age_seconds)", "{{projection}}"),
            ),
        ],
    },
}
