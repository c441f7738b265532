"""Checks of Kafka and MongoDB. Each takes facts and yields faults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.shared.messaging import TopicSpec, TopicState
from services.shared.operations.doctor.expected import Expected, Service
from services.shared.operations.doctor.facts import Log, Member, Stored
from services.shared.operations.doctor.findings import Fault

OPLOG_SECONDS = 24 * 3600.0
BEHIND_SECONDS = 10.0
KEY_DAYS = 365
_HEALTHY = ("PRIMARY", "SECONDARY", "ARBITER")
_CREATE = "create it: python -m infra.kafka topics"


def topics(log: Log, expected: Expected) -> Iterator[Fault]:
    for wanted in (spec.on(log.brokers) for spec in expected.topics):
        found = log.topics.get(wanted.name)
        if found is None:
            yield Fault(f"{wanted.name} does not exist, or this user may not describe it", _CREATE)
        else:
            yield from _shape(wanted, found.spec)
            yield from _config(wanted, found.spec)


def _shape(wanted: TopicSpec, found: TopicSpec) -> Iterator[Fault]:
    if found.partitions != wanted.partitions:
        cure = (
            "to add partitions, drain the topic first (subjects change partitions), "
            "then kafka-topics --alter; partitions cannot be removed: create the topic anew"
        )
        yield Fault(f"{wanted.name} has {found.partitions} partitions, not {wanted.partitions}", cure)
    if found.replication < wanted.replication:
        cure = "run kafka-reassign-partitions with a plan that names more brokers"
        yield Fault(f"{wanted.name} is on {found.replication} brokers, not {wanted.replication}", cure)


def _config(wanted: TopicSpec, found: TopicSpec) -> Iterator[Fault]:
    for name, value in wanted.config.items():
        if (actual := found.config.get(name)) != value:
            cure = (
                f"kafka-configs --alter --entity-type topics --entity-name {wanted.name} "
                f"--add-config {name}={value}"
            )
            yield Fault(f"{wanted.name}: {name} is {actual}, not {value}", cure)


def replicas(log: Log) -> Iterator[Fault]:
    for name, topic in log.topics.items():
        yield from _partitions(name, topic)


def _partitions(name: str, topic: TopicState) -> Iterator[Fault]:
    if topic.leaderless:
        yield Fault(f"{name}: {topic.leaderless} partitions have no leader", "start the missing brokers")
    elif topic.behind:
        cure = "start the missing brokers; if all are running, wait until they have caught up"
        yield Fault(f"{name}: {topic.behind} partitions have replicas that are not in sync", cure)


def members(found: Sequence[Member]) -> Iterator[Fault]:
    if not any(member.state == "PRIMARY" for member in found):
        yield Fault(
            "the replica set has no primary: nothing can be written", "start a majority of its members"
        )
    for member in found:
        if member.state not in _HEALTHY:
            cure = "start it, and check its log; it then catches up by itself"
            yield Fault(f"the member {member.name} is {member.state}", cure)
        elif member.behind is not None and member.behind > BEHIND_SECONDS:
            cure = "check its disk and its load: if another member fails, w:majority waits for this one"
            yield Fault(f"the member {member.name} is {member.behind:.0f} s behind the primary", cure)


def oplog(seconds: float) -> Iterator[Fault]:
    if seconds < OPLOG_SECONDS:
        cure = "db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES}) on each member"
        yield Fault(f"the oplog holds {seconds / 3600:.1f} h once full, less than a day", cure)


def migrations(stored: Stored, expected: Service) -> Iterator[Fault]:
    missing = [key for key in expected.migrations if key not in stored.migrations]
    if missing:
        cure = (
            "start this release of the service: it migrates at start; if that fails, its log has the reason"
        )
        yield Fault(f"{stored.name} lacks migrations: {', '.join(missing)}", cure)


def indexes(stored: Stored, expected: Service) -> Iterator[Fault]:
    """Checks existing collections only: a missing migration explains missing ones."""
    for collection, wanted in expected.indexes.items():
        if collection not in stored.collections:
            cure = (
                "restore it from the backup; or stop the service, delete the collection's row "
                "in `migrations` and start the service"
            )
            yield Fault(f"{stored.name}.{collection} does not exist", cure)
            continue
        for index in wanted:
            if index not in stored.indexes[collection]:
                said = f"{stored.name}.{collection} lacks the index {_describe(index)}"
                yield Fault(said, _create(stored.name, collection, index))


def _describe(index: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{field} {direction}" for field, direction in index["key"])
    options = [f"{option} {json.dumps(value)}" for option, value in index.items() if option != "key"]
    return "; ".join([keys, *options])


def _create(name: str, collection: str, index: Mapping[str, Any]) -> str:
    """The command that creates the index. MongoDB refuses it while an index of the same keys with other
    options exists."""
    options = {option: value for option, value in index.items() if option != "key"}
    return (
        f'db.getSiblingDB("{name}").{collection}.createIndex('
        f"{json.dumps(dict(index['key']))}, {json.dumps(options)}); "
        "if an index of the same keys exists, drop it first"
    )


def keyring(stored: Stored, service: str, now: datetime) -> Iterator[Fault]:
    ring = stored.keyring
    if ring is None:
        return
    if ring.orphans:
        cure = f"restore {stored.name}.keys from the same backup: until then their documents cannot be read"
        yield Fault(f"{stored.name} has {ring.orphans} content keys whose data key is gone", cure)
    if ring.newest_at and (now - ring.newest_at).days > KEY_DAYS:
        age = (now - ring.newest_at).days
        yield Fault(
            f"the data key of {stored.name} is {age} days old", f"python -m services.{service} rotate-keys"
        )
