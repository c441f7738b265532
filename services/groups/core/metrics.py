"""Metrics of the groups service."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.groups.core.policy import DRIFT


class GroupsMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.groups_created = Counter("sangathan_groups_created", "Groups created.", registry=registry)
        self.placements = Counter(
            "sangathan_placements",
            "Placement decisions (assigned, waiting, removed, redrawn).",
            ["outcome"],
            registry=registry,
        )
        self.units = Counter(
            "sangathan_units_written", "Units created, updated or retired.", ["outcome"], registry=registry
        )
        self.waiting = Gauge(
            "sangathan_members_waiting_for_unit",
            "Members whose unit is not known yet.",
            registry=registry,
        )
        self.waiting_age = Gauge(
            "sangathan_members_waiting_for_unit_oldest_age_seconds",
            "For how long the first of those has waited; 0 if there is none.",
            registry=registry,
        )
        self.rosters = Counter(
            "sangathan_rosters",
            "Rosters of chat groups by outcome: reconciled, or refused for being another group's.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("reconciled", "refused"):  # 0 from the start: `increase` does not see a series begin
            self.rosters.labels(outcome)
        self.observed = Counter(
            "sangathan_members_observed",
            "Members whom a roster showed to have joined or left a chat group.",
            ["state"],
            registry=registry,
        )
        self.reinvites = Counter(
            "sangathan_reinvites",
            "Members to be invited to their chat group again, by cause (never_came, link_reset).",
            ["cause"],
            registry=registry,
        )
        self.reinvites_age = Gauge(
            "sangathan_reinvites_oldest_due_age_seconds",
            "For how long the first member who is to be invited again has been due; 0 if there is none.",
            registry=registry,
        )
        self.drifting = Gauge(
            "sangathan_drifting_members",
            "Members who are not in the chat group they should be in, or in one they should not, by cause.",
            ["cause"],
            registry=registry,
        )
        self.unobserved = Gauge(
            "sangathan_groups_unobserved",
            "Groups with an invite link and members, of which no roster came within 30 days.",
            registry=registry,
        )
        self.gaps = Gauge(
            "sangathan_groups_with_gaps",
            "Groups with members that lack a link, or have fewer than two admins, by problem.",
            ["problem"],
            registry=registry,
        )
        self.links_sealed = Counter(
            "sangathan_invite_links_sealed",
            "Links sealed after the fact, because a process of release 0.1.0 had stored them.",
            registry=registry,
        )

        self.drift = Gauge(
            "sangathan_placement_drift",
            "Differences between placements and the policy that the last audit found; 0 before the first.",
            ["cause"],
            registry=registry,
        )
        for cause in DRIFT:
            self.drift.labels(cause)

    def show_waiting(self, count: int, oldest: datetime | None, now: datetime) -> None:
        self.waiting.set(count)
        self.waiting_age.set(max(0.0, (now - oldest).total_seconds()) if oldest else 0)
