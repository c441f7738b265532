from __future__ import annotations

import pytest

from infra import generate
from infra.composed import composed_services
from infra.kafka.access import Rule, load_access
from infra.kafka.topics import load_topics
from infra.mongo.users import SERVICES, Account, read_accounts


def test_generated_infrastructure_files_are_up_to_date():
    assert list(generate.stale()) == []


def test_every_topic_has_one_writer_and_none_is_granted_that_does_not_exist():
    access, topics = load_access(), {topic.name for topic in load_topics(1)}
    writers = [name for each in access.values() for name in each.writes]
    assert len(writers) == len(set(writers))
    assert {*writers, *(name for each in access.values() for name in each.reads)} <= topics


def test_no_service_may_join_another_services_consumer_group():
    groups = [each.group for each in load_access().values() if each.group]
    assert not [(a, b) for a in groups for b in groups if a != b and a.startswith(b)]


def test_every_service_reads_what_it_subscribes_to():
    access = load_access()
    for name, service in composed_services().items():
        consumer = service.consumer
        assert set(consumer.topics if consumer else ()) <= set(access[name].reads)


def test_a_service_that_restores_its_decisions_reads_its_own_topic():
    assert Rule("topic", "sangathan.groups", "literal", "Read") in load_access()["groups"].rules()
    read = ("analytics", "groups", "members", "notifications")
    assert load_access()["members"].rules() == [
        Rule("topic", "members.dlq", "literal", "Write"),
        Rule("topic", "sangathan.members", "literal", "Write"),
        *(Rule("topic", f"sangathan.{name}", "literal", "Read") for name in read),
        Rule("group", "members", "prefixed", "Read"),
    ]


def test_a_mongo_role_covers_the_services_database_and_requested_extras():
    plain = Account("groups", "p", ["groups"]).role
    assert plain == {
        "privileges": [{"resource": {"db": "groups", "collection": ""}, "actions": ["collMod"]}],
        "roles": [{"role": "readWrite", "db": "groups"}],
    }
    more = Account("groups", "p", ["groups", "groups_2"], oplog=True).role
    assert more["roles"][1] == {"role": "readWrite", "db": "groups_2"}
    assert more["privileges"][-1]["resource"] == {"db": "local", "collection": "oplog.rs"}


@pytest.mark.parametrize("uri", ["mongodb://h/?replicaSet=rs0", "mongodb://groups@h/", "mongodb://x:y@h/"])
def test_a_secret_that_is_not_the_services_is_refused(tmp_path, uri):
    for service in SERVICES:
        (tmp_path / service).mkdir()
        (tmp_path / service / "sangathan_mongo_uri").write_text(f"mongodb://{service}:pass@h/")
    assert [account.password for account in read_accounts(tmp_path, {})] == ["pass"] * 4
    (tmp_path / "groups" / "sangathan_mongo_uri").write_text(uri)
    with pytest.raises(ValueError, match="must name the user groups and a password") as refused:
        read_accounts(tmp_path, {})
    assert "mongodb" not in str(refused.value)
