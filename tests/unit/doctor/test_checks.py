"""Each check on healthy facts, and on unhealthy ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from services.shared.messaging import TopicSpec, TopicState
from services.shared.operations.doctor import checks_services as services
from services.shared.operations.doctor import checks_stores as stores
from services.shared.operations.doctor import checks_trust as trust
from services.shared.operations.doctor.expected import Expected, Service
from services.shared.operations.doctor.facts import (
    Certificate,
    Keyring,
    Log,
    Member,
    Monitoring,
    Process,
    Rule,
    Stored,
)
from services.shared.operations.doctor.findings import Fault

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SPEC = TopicSpec("t", 6, 3, {"retention.ms": "-1", "min.insync.replicas": "2"})
UNIQUE = {"key": [["unit", 1], ["_id", 1]], "unique": True}
PLACES = Service(reads=["t"], migrations=["messaging-0001", "core-0001"], indexes={"places": [UNIQUE]})
EXPECTED = Expected([SPEC], {"groups": PLACES}, alerts=["OutboxStuck"])


def said(faults: Iterable[Fault]) -> list[str]:
    found = list(faults)
    assert all(fault.cure for fault in found), "a fault without a cure"
    return [fault.said for fault in found]


def groups(metric: str = "", *values: float, **facts: object) -> list[Process]:
    """A process for each value of the metric, or one with `facts`."""
    if not metric:
        return [Process("groups", "http://g", **facts)]  # type: ignore[arg-type]
    return [Process("groups", f"http://g{n}", metrics={metric: [({}, v)]}) for n, v in enumerate(values)]


def labelled(metric: str, value: float, **labels: str) -> list[Process]:
    return groups(metrics={metric: [(labels, value)]})


def versions(*found: str) -> list[Process]:
    return [Process("groups", "http://g", version=version) for version in found]


TOKENS = partial(services.service_tokens, now=NOW.timestamp())
SILENCES = partial(services.broker_silences, now=NOW.timestamp())
ASSIGNED = partial(services.assignments, expected=EXPECTED)
OF_RELEASE = partial(services.versions, release="0.2.0")


@pytest.mark.parametrize(
    ("check", "processes"),
    [
        (services.answering, groups()),
        (services.answering, []),
        (services.ready, groups()),
        (OF_RELEASE, versions("0.2.0", "0.2.0")),
        (services.clocks, groups(skew=services.SKEW_SECONDS)),
        (services.outboxes, groups(services.OUTBOX_AGE, 0, services.OUTBOX_SECONDS)),
        (services.relays, groups(services.LEADER, 0, 1)),
        (services.fuses, groups(services.FUSE, 0)),
        (services.dead_letters, groups(services.LETTERS, 0)),
        (services.lags, groups(services.LAG, services.LAG_SECONDS)),
        (ASSIGNED, groups(services.ASSIGNED, 2, 4, 0)),
        (services.key_sets, groups(services.UNREADABLE, 0)),
        (services.key_sets, groups(services.REVOCATIONS_UNREADABLE, 0)),
        (TOKENS, groups(services.EXPIRY, (NOW + 8 * DAY).timestamp())),
        (services.pending_placements, groups(services.WAITING_AGE, 3599)),
        (services.unpublishable, labelled(services.UNPUBLISHABLE, 0, topic="t", reason="denied")),
        (services.set_aside, groups(services.SET_ASIDE, 0)),
        (services.stopped_partitions, labelled(services.STOPPED, 0, topic="t", reason="codec")),
        (services.log_gaps, groups()),
        (SILENCES, labelled(services.BROKER_ANSWER, NOW.timestamp() - 59, call="fetch")),
        (SILENCES, labelled(services.BROKER_ANSWER, 0, call="produce")),
        (services.database_clocks, groups(services.SKEW, 2, -2)),
    ],
)
def test_healthy_services_have_no_faults(check, processes):
    assert said(check(processes)) == []


@pytest.mark.parametrize(
    ("check", "processes", "expected"),
    [
        (
            services.answering,
            groups(fault="ConnectError"),
            "groups at http://g does not answer: ConnectError",
        ),
        (
            services.ready,
            groups(reasons={"mongodb": "x"}),
            "groups at http://g is not ready: mongodb: x",
        ),
        (OF_RELEASE, versions("0.2.0", "0.1.0"), "groups runs 0.1.0 and 0.2.0 at once"),
        (OF_RELEASE, versions("0.1.0", "0.1.0"), "groups runs 0.1.0, but this doctor is of 0.2.0"),
        (services.clocks, groups(skew=9), "the clock of groups at http://g is 9 s ahead of this machine's"),
        (services.clocks, groups(skew=-9), "the clock of groups at http://g is 9 s behind this machine's"),
        (services.outboxes, groups(services.OUTBOX_AGE, 0, 31), "an event of groups has waited 31 s"),
        (services.relays, groups(services.LEADER, 0, 0), "no process of groups"),
        (services.fuses, groups(services.FUSE, 1), "the fuse of groups is open"),
        (services.dead_letters, groups(services.LETTERS, 2, 2), "groups has 2 dead letters"),
        (services.lags, groups(services.LAG, 0, 61), "groups is 61 s behind"),
        (ASSIGNED, groups(services.ASSIGNED, 2, 3), "groups: 5 of 6 partitions are read"),
        (TOKENS, groups(services.EXPIRY, (NOW + DAY).timestamp()), "calls other services expires in 24 h"),
        (services.key_sets, groups(services.UNREADABLE, 1), "groups cannot read the key set"),
        (services.key_sets, groups(services.REVOCATIONS_UNREADABLE, 1), "cannot read the list of revoked"),
        (TOKENS, groups(services.EXPIRY, float("nan")), "calls other services cannot be read"),
        (services.pending_placements, groups(services.WAITING_AGE, 7300), "do not exist, one for 2 h"),
        (
            services.unpublishable,
            labelled(services.UNPUBLISHABLE, 3, topic="groups.dlq", reason="missing"),
            "3 events of groups cannot be published to groups.dlq: missing",
        ),
        (services.set_aside, groups(services.SET_ASIDE, 4, 4), "groups has set aside 4 events"),
        (
            services.stopped_partitions,
            labelled(services.STOPPED, 2, topic="t", reason="codec"),
            "groups cannot read on in 2 partitions of t: codec",
        ),
        (services.log_gaps, labelled(services.GAP, 9, topic="t"), "t lost 9 records before groups read them"),
        (
            SILENCES,
            labelled(services.BROKER_ANSWER, NOW.timestamp() - 540, call="fetch"),
            "no broker has answered a fetch of groups at http://g for 540 s",
        ),
        (services.database_clocks, groups(services.SKEW, -61), "is 61 s behind MongoDB's"),
    ],
)
def test_faults_of_services_are_named(check, processes, expected):
    [fault] = said(check(processes))
    assert expected in fault


def test_a_stuck_outbox_is_cured_at_the_relay_or_at_the_broker():
    process = replace(groups()[0], metrics={services.OUTBOX_AGE: [({}, 99)], services.LEADER: [({}, 1)]})
    [led] = services.outboxes([process])
    [leaderless] = services.outboxes(groups(services.OUTBOX_AGE, 99))
    assert "broker" in led.cure
    assert "lease" in leaderless.cure


def log(spec: TopicSpec = SPEC, brokers: int = 3, leaderless: int = 0, behind: int = 0) -> Log:
    return Log(brokers, {spec.name: TopicState(spec, leaderless, behind)})


TOPICS = partial(stores.topics, expected=EXPECTED)
SHORT = replace(SPEC, config={**SPEC.config, "retention.ms": "604800000"})
STORED = Stored("groups", {"places"}, {"places": [UNIQUE]}, {"messaging-0001", "core-0001"}, None)
MIGRATED = partial(stores.migrations, expected=PLACES)
INDEXED = partial(stores.indexes, expected=PLACES)
KEYRING = partial(stores.keyring, service="groups", now=NOW)
PRIMARY = Member("a", "PRIMARY", 0)


@pytest.mark.parametrize(
    ("check", "facts"),
    [
        (TOPICS, log()),
        (TOPICS, log(SPEC.on(1), brokers=1)),
        (stores.replicas, log()),
        (stores.members, [PRIMARY, Member("b", "SECONDARY", 3), Member("c", "ARBITER", None)]),
        (stores.oplog, stores.OPLOG_SECONDS),
        (MIGRATED, STORED),
        (INDEXED, STORED),
        (KEYRING, STORED),
        (KEYRING, replace(STORED, keyring=Keyring(NOW - 300 * DAY, 0))),
        (KEYRING, replace(STORED, keyring=Keyring(None, 0))),
    ],
)
def test_healthy_stores_have_no_faults(check, facts):
    assert said(check(facts)) == []


@pytest.mark.parametrize(
    ("check", "facts", "expected"),
    [
        (TOPICS, Log(3, {}), "t does not exist"),
        (TOPICS, log(replace(SPEC, partitions=5)), "t has 5 partitions, not 6"),
        (TOPICS, log(replace(SPEC, replication=2)), "t is on 2 brokers, not 3"),
        (TOPICS, log(SHORT), "t: retention.ms is 604800000, not -1"),
        (TOPICS, log(replace(SPEC, config={"retention.ms": "-1"})), "min.insync.replicas is None, not 2"),
        (stores.replicas, log(leaderless=1, behind=1), "t: 1 partitions have no leader"),
        (stores.replicas, log(behind=2), "t: 2 partitions have replicas that are not in sync"),
        (stores.members, [Member("b", "SECONDARY", None)], "has no primary"),
        (stores.members, [PRIMARY, Member("b", "(not reachable/healthy)", None)], "b is (not reachable"),
        (stores.members, [PRIMARY, Member("b", "SECONDARY", 11)], "b is 11 s behind"),
        (stores.oplog, 3600.0, "holds 1.0 h"),
        (MIGRATED, replace(STORED, migrations={"messaging-0001"}), "groups lacks migrations: core-0001"),
        (INDEXED, replace(STORED, collections=()), "groups.places does not exist"),
        (
            INDEXED,
            replace(STORED, indexes={"places": [{"key": UNIQUE["key"]}]}),
            "groups.places lacks the index unit 1, _id 1; unique true",
        ),
        (KEYRING, replace(STORED, keyring=Keyring(NOW, 1)), "1 content keys whose data key is gone"),
        (KEYRING, replace(STORED, keyring=Keyring(NOW - 366 * DAY, 0)), "is 366 days old"),
    ],
)
def test_faults_of_stores_are_named(check, facts, expected):
    [fault] = said(check(facts))
    assert expected in fault


def test_the_cure_of_a_missing_index_is_its_command():
    [fault] = INDEXED(replace(STORED, indexes={"places": []}))
    assert fault.cure.startswith(
        'db.getSiblingDB("groups").places.createIndex({"unit": 1, "_id": 1}, {"unique": true})'
    )


WATCH = Monitoring([Rule("OutboxStuck")], down={}, alertmanagers=["http://a"])
CERTIFICATES = partial(trust.certificates, now=NOW)
RULES = partial(trust.rules, expected=EXPECTED)


@pytest.mark.parametrize(
    ("check", "facts"),
    [
        (trust.token_keys, 1),
        (CERTIFICATES, [Certificate("h:1", NOW + 22 * DAY)]),
        (RULES, WATCH),
        (trust.targets, WATCH),
        (trust.told, WATCH),
        (trust.alertmanager, ""),
    ],
)
def test_healthy_trust_has_no_faults(check, facts):
    assert said(check(facts)) == []


@pytest.mark.parametrize(
    ("check", "facts", "expected"),
    [
        (trust.token_keys, 0, "no key"),
        (CERTIFICATES, [Certificate("h:1", NOW + 20 * DAY)], "h:1 expires in 20 days"),
        (CERTIFICATES, [Certificate("h:1", fault="certificate has expired")], "h:1: certificate has expired"),
        (RULES, replace(WATCH, rules=[Rule("Another")]), "has not loaded: OutboxStuck"),
        (
            RULES,
            replace(WATCH, rules=[Rule("OutboxStuck", "many-to-many")]),
            "OutboxStuck is not evaluated: many-to-many",
        ),
        (trust.targets, replace(WATCH, down={"h:1": "refused"}), "cannot scrape h:1: refused"),
        (trust.told, replace(WATCH, alertmanagers=[]), "knows no Alertmanager"),
        (trust.alertmanager, "ConnectError", "not ready: ConnectError"),
    ],
)
def test_faults_of_trust_are_named(check, facts, expected):
    [fault] = said(check(facts))
    assert expected in fault


def test_prometheus_without_any_rule_is_not_well_though_none_was_expected():
    none = Expected([], {}, alerts=[])
    assert said(trust.rules(replace(WATCH, rules=[]), none)) == [
        "Prometheus has not loaded: any alerting rule"
    ]
