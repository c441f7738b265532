from __future__ import annotations

import pytest

from infra.kafka.topics import load_topics


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, "1"), (2, 2, "2"), (5, 3, "2")])
def test_replication_is_capped_by_the_number_of_brokers(brokers, replicas, in_sync):
    for topic in load_topics(brokers):
        assert (topic.replication, topic.config["min.insync.replicas"]) == (replicas, in_sync)


def test_the_log_never_expires_so_that_it_can_be_replayed():
    for topic in load_topics(3):
        assert topic.config["cleanup.policy"] == "delete"
        assert topic.config["retention.ms"] == topic.config["retention.bytes"] == "-1"


def test_every_publisher_and_every_consumer_group_has_its_topic():
    services = ("members", "groups", "notifications", "analytics")
    expected = {f"sangathan.{name}" for name in services} | {f"{name}.dlq" for name in services}
    assert {topic.name for topic in load_topics(3)} == expected


def test_a_dead_letter_has_room_for_the_largest_record_and_its_headers():
    limits = {t.name: int(t.config.get("max.message.bytes", 1_048_588)) for t in load_topics(3)}
    largest_event = max(limit for name, limit in limits.items() if not name.endswith(".dlq"))
    assert all(limit > 1.5 * largest_event for name, limit in limits.items() if name.endswith(".dlq"))
