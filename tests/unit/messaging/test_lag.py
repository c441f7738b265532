"""Lag in records and in seconds, as a consumer tells of it."""

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


class Told:
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
def told() -> Told:
    return Told()


def record(partition: Partition, offset: int, age: float = 0) -> Record:
    at = int((START - timedelta(seconds=age)).timestamp() * 1000)
    return Record(partition, offset, b"k", b"v", (), at)


def test_nothing_waits_at_first(told: Told) -> None:
    assert told.seconds("a") == told.seconds("b") == 0
    assert not told.lag.known


def test_the_oldest_record_in_hand_ages_until_it_is_committed(told: Told) -> None:
    batch = [record(ONE, 1, age=5), record(ONE, 2, age=1), record(TWO, 7, age=3)]
    told.lag.fetched(batch)
    assert told.seconds() == 5
    told.wait(60)
    assert told.seconds() == 65
    assert told.seconds("b") == 0
    told.lag.consumed(batch)
    assert told.seconds() == 0


def test_where_more_waits_than_was_fetched_the_next_is_as_young_as_the_last(told: Told) -> None:
    told.lag.looked({ONE: 10, TWO: 0})
    batch = [record(ONE, 1, age=5), record(ONE, 2, age=4), record(TWO, 7, age=9)]
    told.lag.fetched(batch)
    told.lag.consumed(batch)
    assert told.seconds() == 4
    told.wait(1)  # the broker is away, and nothing more comes
    assert told.seconds() == 5
    told.lag.looked({ONE: 0, TWO: 0})
    assert told.seconds() == 0


def test_a_partition_that_went_to_another_member_is_forgotten(told: Told) -> None:
    told.lag.looked({ONE: 3, OTHER: 1})
    told.lag.fetched([record(ONE, 1, age=5), record(OTHER, 1, age=2)])
    told.lag.looked({OTHER: 1})
    assert (told.seconds("a"), told.seconds("b")) == (0, 2)
    assert told.registry.get_sample_value("sangathan_consumer_assigned_partitions") == 1


def test_records_are_summed_by_topic(told: Told) -> None:
    told.lag.looked({ONE: 3, TWO: 4, OTHER: 0})
    assert (told.value("lag_records", "a"), told.value("lag_records", "b")) == (7, 0)
    told.lag.looked({TWO: 4, OTHER: 0})
    assert told.value("lag_records", "a") == 4
    told.lag.looked({OTHER: 0})
    assert told.value("lag_records", "a") == 0, "what is another member's is not ours"


def test_a_clock_behind_the_brokers_makes_no_negative_age(told: Told) -> None:
    told.lag.fetched([record(ONE, 1, age=-30)])
    assert told.seconds() == 0
