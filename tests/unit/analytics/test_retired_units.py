"""A unit that others have succeeded is covered until that day."""

from __future__ import annotations

from services.analytics.core.coverage.domain import retired_on, target_of, target_on, unit_deltas


def test_a_retired_unit_counts_until_that_day_in_whatever_order_it_is_told() -> None:
    announced = [1, "2026-11-01", {"target": 0.4}, "event"]
    gone = [2, "2026-11-20", {"retired": True}, "event"]
    record = {"_id": "BR-A", "u": [announced, gone]}
    assert unit_deltas(record) == {("BR-A", "2026-11-01", "units"): 1, ("BR-A", "2026-11-20", "units"): -1}
    assert retired_on(record) == "2026-11-20"
    assert target_of(record) == target_on([record], "2026-11-25") == 0.4
    alone = {"_id": "BR-A", "u": [gone]}
    assert +unit_deltas(alone) == {}
    assert target_of(alone) is None
