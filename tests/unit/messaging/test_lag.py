"""Lag in records and in seconds, as a consumer exports it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from services.shared.clock import ManualClock
from services.shared.messaging import Backlog, Partition, Record
from services.shared.messaging.consuming.lag import SILENT_SECONDS, Lag
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

    def looked(self, lags: dict[Partition, int], silent: tuple[Partition, ...] = ()) -> None:
        """The broker has told these lags, behind offset 100, and nothing of the silent partitions."""
        self.lag.looked({p: Backlog(100, 100 + lag) for p, lag in lags.items()}, {*lags, *silent})

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
    gauges.looked({ONE: 0})
    assert gauges.lag.unseen(0) == []


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
    gauges.looked({ONE: 10, TWO: 0})
    batch = [record(ONE, 100, age=5), record(ONE, 101, age=4), record(TWO, 99, age=9)]
    gauges.lag.fetched(batch)
    gauges.lag.consumed(batch)
    assert gauges.seconds() == 4
    gauges.wait(1)  # the broker is away, and no record arrives
    assert gauges.seconds() == 5
    gauges.looked({ONE: 0, TWO: 0})
    assert gauges.seconds() == 0


def test_a_partition_that_went_to_another_member_is_forgotten(gauges: Gauges) -> None:
    gauges.looked({ONE: 3, OTHER: 1})
    gauges.lag.fetched([record(ONE, 1, age=5), record(OTHER, 1, age=2)])
    gauges.looked({OTHER: 1})
    assert (gauges.seconds("a"), gauges.seconds("b")) == (0, 2)


def test_records_are_summed_by_topic(gauges: Gauges) -> None:
    gauges.looked({ONE: 3, TWO: 4, OTHER: 0})
    assert (gauges.value("lag_records", "a"), gauges.value("lag_records", "b")) == (7, 0)
    gauges.looked({TWO: 4, OTHER: 0})
    assert gauges.value("lag_records", "a") == 4
    gauges.looked({OTHER: 0})
    assert gauges.value("lag_records", "a") == 0, "lag of another member's partitions is not ours"


def test_a_clock_behind_the_brokers_makes_no_negative_age(gauges: Gauges) -> None:
    gauges.lag.fetched([record(ONE, 1, age=-30)])
    assert gauges.seconds() == 0


def test_records_that_nobody_fetches_wait_since_they_were_seen_and_are_looked_up_once(gauges: Gauges) -> None:
    gauges.looked({ONE: 3, OTHER: 0})
    gauges.wait(5)
    gauges.looked({ONE: 4, OTHER: 0})
    assert (gauges.seconds("a"), gauges.seconds("b")) == (5, 0)
    assert gauges.lag.unseen(6) == []
    assert gauges.lag.unseen(5) == [(ONE, 100)]
    assert gauges.lag.unseen(0) == []
    gauges.lag.fetched([record(ONE, 100, age=30)])
    assert gauges.seconds("a") == 35


def test_a_silent_broker_makes_the_lag_grow(gauges: Gauges) -> None:
    gauges.looked({ONE: 0, OTHER: 0})
    gauges.wait(SILENT_SECONDS)
    assert gauges.seconds("a") == 0, "one slow answer is no lag"
    gauges.wait(60)
    gauges.looked({OTHER: 0}, silent=(ONE,))  # it answers for one topic of two
    assert (gauges.seconds("a"), gauges.seconds("b")) == (SILENT_SECONDS + 60, 0)
    gauges.looked({ONE: 0, OTHER: 0})
    assert gauges.seconds("a") == 0


def test_a_broker_that_never_answered_is_silent_since_the_start(gauges: Gauges) -> None:
    gauges.lag.begin()
    gauges.wait(300)
    assert gauges.seconds("a") == gauges.seconds("b") == 300
