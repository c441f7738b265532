"""Units: known by level and women's target; they add nothing to the counters. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from services.analytics.core.counting import Count, EventMapping, Projection
from services.analytics.core.facts import Fact, Statement
from services.shared.contracts.groups import UnitSucceeded, UnitUpserted


def counted(_: Fact) -> Iterator[Count]:
    yield from ()


def _upserted(event: UnitUpserted) -> Statement:
    return {"level": event.level, "women_target": event.women_target}


def _succeeded(_: UnitSucceeded) -> Statement:
    """The counters of the unit stay; it is no longer among those that are to be covered."""
    return {"retired": True}


UNITS = Projection(
    "units",
    1,
    ("units.",),
    counted,
    {UnitUpserted: EventMapping(_upserted, whole=True), UnitSucceeded: EventMapping(_succeeded)},
)
