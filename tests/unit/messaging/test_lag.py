"""Lag in records and in seconds, as a consumer exports it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from services.shared.clock import ManualClock
from services.shared.messaging import Partition, Record
from services.shared.messaging.consuming.lag import Lag
from services.shared.messaging.metrics import ConsumerMetrics

START = datetime(2026, 11, 24, tzinfo=UTC)
ONE, TWO, OTHER = Partition("a", 0), Partition("a", 1), Partition("b", 0)


class Gauges:
    def __init__(self) -> None:
        self.clock, self.registry = ManualClock(START), CollectorRegistry()
        self.lag = Lag(["a", "b"], self.clock, ConsumerMetrics(self.registry))

    def value(self, name: str, topic: str) -> float | None:
        return self.registry.get_sample_value(f"sangathan_consumer_{name}", {"topic": topic})

    def seconds(self, topic: str = "a") -> float | None:
        return self.value("lag_seconds", topic)

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


@pytest.fixture
def gauges() -> Gauges:
    return Gauges()


def record(partition: Partition, offset: int, age: float = 0) -> Record:
    at = int((START - timedelta(seconds=age)).timestamp() * 1000)
    return Record(partition, offset, b"k", b"v", (), at)


def test_nothing_waits_at_first(gauges: Gauges) -> None:
    assert gauges.seconds("a") == gauges.seconds("b") == 0
    assert not gauges.lag.known


def test_the_oldest_uncommitted_record_ages_until_it_is_committed(gauges: Gauges) -> None:
    batch = [record(ONE, 1, age=5), record(ONE, 2, age=1), record(TWO, 7, age=3)]
    gauges.lag.fetched(batch)
    assert gauges.seconds() == 5
    gauges.wait(60)
    assert gauges.seconds() == 65
    assert gauges.seconds("b") == 0
    gauges.lag.consumed(batch)
    assert gauges.seconds() == 0


def test_unfetched_records_count_as_old_as_the_last_fetched_one(gauges: Gauges) -> None:
    gauges.lag.looked({ONE: 10, TWO: 0})
    batch = [record(ONE, 1, age=5), record(ONE, 2, age=4), record(TWO, 7, age=9)]
    gauges.lag.fetched(batch)
    gauges.lag.consumed(batch)
    assert gauges.seconds() == 4
    gauges.wait(1)  # the broker is away, and no record arrives
    assert gauges.seconds() == 5
    gauges.lag.looked({ONE: 0, TWO: 0})
    assert gauges.seconds() == 0


def test_a_partition_that_went_to_another_member_is_forgotten(gauges: Gauges) -> None:
    gauges.lag.looked({ONE: 3, OTHER: 1})
    gauges.lag.fetched([record(ONE, 1, age=5), record(OTHER, 1, age=2)])
    gauges.lag.looked({OTHER: 1})
    assert (gauges.seconds("a"), gauges.seconds("b")) == (0, 2)
    assert gauges.registry.get_sample_value("sangathan_consumer_assigned_partitions") == 1


def test_records_are_summed_by_topic(gauges: Gauges) -> None:
    gauges.lag.looked({ONE: 3, TWO: 4, OTHER: 0})
    assert (gauges.value("lag_records", "a"), gauges.value("lag_records", "b")) == (7, 0)
    gauges.lag.looked({TWO: 4, OTHER: 0})
    assert gauges.value("lag_records", "a") == 4
    gauges.lag.looked({OTHER: 0})
    assert gauges.value("lag_records", "a") == 0, "lag of another member's partitions is not ours"


def test_a_clock_behind_the_brokers_makes_no_negative_age(gauges: Gauges) -> None:
    gauges.lag.fetched([record(ONE, 1, age=-30)])
    assert gauges.seconds() == 0
