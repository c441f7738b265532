"""Metrics of the groups service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class GroupsMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.groups_created = Counter("sangathan_groups_created", "Groups created.", registry=registry)
        self.placements = Counter(
            "sangathan_placements",
            "Placement decisions (assigned, waiting, removed).",
            ["outcome"],
            registry=registry,
        )
        self.units = Counter(
            "sangathan_units_written", "Units created or changed.", ["outcome"], registry=registry
        )
        self.waiting = Gauge(
            "sangathan_members_waiting_for_unit",
            "Members whose unit is not known yet.",
            registry=registry,
        )
