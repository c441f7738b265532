"""Metrics of the groups service."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge


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

    def show_waiting(self, count: int, oldest: datetime | None, now: datetime) -> None:
        self.waiting.set(count)
        self.waiting_age.set(max(0.0, (now - oldest).total_seconds()) if oldest else 0)
