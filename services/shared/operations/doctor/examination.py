"""All checks on all facts, in the order in which an operator would proceed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from services.shared.operations.doctor import checks_services as services
from services.shared.operations.doctor import checks_stores as stores
from services.shared.operations.doctor import checks_trust as trust
from services.shared.operations.doctor.expected import Expected
from services.shared.operations.doctor.facts import Log, Monitoring, Process, Store
from services.shared.operations.doctor.findings import Fault, Finding, Seen, Unseen, Verdict, examine, unseen
from services.shared.operations.doctor.looking import Facts
from services.shared.operations.doctor.stores import KEYS

Processes = Sequence[Process]


def examination(facts: Facts, expected: Expected, release: str, now: datetime) -> list[Finding]:
    certificates = partial(trust.certificates, now=now)
    return [
        *_processes(facts.processes, expected, release, now),
        *_log(facts.log, expected),
        *_store(facts.store, expected, now),
        *examine("token keys", facts.keys, trust.token_keys, lambda n: f"{n} usable keys in the key set"),
        *examine("certificates", facts.certificates, certificates, lambda found: f"{len(found)} are valid"),
        *_watch(facts.watch, expected),
        *examine("alertmanager", facts.alertmanager, trust.alertmanager, "ready"),
    ]


def _processes(found: Seen[Processes], expected: Expected, release: str, now: datetime) -> Iterator[Finding]:
    if isinstance(found, Unseen):
        yield unseen("services", found)
        return
    yield from examine("services", found, services.answering, lambda ps: f"{len(ps)} processes answer")
    unnamed = _without_address(found, expected)
    for service in unnamed:
        cure = f"give its --url or SANGATHAN_{service.upper()}_URL"
        yield unseen("services", Unseen(f"{service}, no address given", cure, Verdict.SKIPPED))
    up = [process for process in found if not process.fault]
    silent = [process.name for process in found if process.fault]
    yield from _partly(_health(up, release), len(up), [*silent, *unnamed])
    yield from (unseen("metrics", p.metrics) for p in up if isinstance(p.metrics, Unseen))
    measured = [process for process in up if not isinstance(process.metrics, Unseen)]
    silent += [process.name for process in up if isinstance(process.metrics, Unseen)]
    yield from _partly(_metrics(measured, expected, now), len(measured), [*silent, *unnamed])


def _partly(findings: Iterable[Finding], asked: int, silent: Sequence[str]) -> Iterator[Finding]:
    """Name those that were not asked beside what is well: it says nothing of them."""
    for finding in findings:
        if silent and finding.verdict is Verdict.WELL:
            who = f"of {asked} of {asked + len(silent)}; not asked: {', '.join(silent)}"
            yield replace(finding, said=f"{finding.said}, {who}")
        else:
            yield finding


def _health(processes: Processes, release: str) -> Iterator[Finding]:
    if processes:
        yield from examine("readiness", processes, services.ready, "all processes that answer are ready")
        versions = partial(services.versions, release=release)
        yield from examine("versions", processes, versions, f"all run {release}")
        yield from examine(
            "clocks", processes, services.clocks, "the services' clocks agree with this machine's"
        )


def _metrics(processes: Processes, expected: Expected, now: datetime) -> Iterator[Finding]:
    """Run the checks of metrics. A metric that no process has counts as not checked."""
    for area, (metric, check, well) in _metric_checks(expected, now).items() if processes else ():
        if any(process.values(metric) for process in processes):
            yield from examine(area, processes, check, well)
        else:
            why = f"none of the checked processes has {metric}"
            cure = "give --url of the processes that have it; otherwise they run another release"
            yield unseen(area, Unseen(why, cure, Verdict.SKIPPED))


MetricCheck = tuple[str, Callable[[Processes], Iterable[Fault]], str]
"""The metric to read, the check, and the text when all is well."""


def _metric_checks(expected: Expected, now: datetime) -> Mapping[str, MetricCheck]:
    """The checks of metrics, by area."""
    assignments = partial(services.assignments, expected=expected)
    tokens = partial(services.service_tokens, now=now.timestamp())
    silences = partial(services.broker_silences, now=now.timestamp())
    silence = f"{services.SILENCE_SECONDS:.0f} s"
    waits, behind = f"{services.OUTBOX_SECONDS:.0f} s", f"{services.LAG_SECONDS:.0f} s"
    return {
        "outbox": (services.OUTBOX_AGE, services.outboxes, f"no event waits longer than {waits}"),
        "relay": (services.LEADER, services.relays, "every checked service has a process that publishes"),
        "fuse": (services.FUSE, services.fuses, "closed in every checked service"),
        "dead letters": (services.LETTERS, services.dead_letters, "none is open"),
        "lag": (services.LAG, services.lags, f"no consumer is more than {behind} behind"),
        "partitions": (services.ASSIGNED, assignments, "every partition has a reader"),
        "token keys": (services.UNREADABLE, services.key_sets, "the services can read their key set"),
        "service token": (services.EXPIRY, tokens, "valid for at least a week"),
        "waiting members": (
            services.WAITING_AGE,
            services.pending_placements,
            f"no member waits for a unit for more than {services.UNIT_SECONDS / 3600:.0f} h",
        ),
        # These three have no samples while all is well: another metric tells that the processes were asked.
        "set-aside rows": (services.LEADER, services.unpublishable, "the relays set none aside"),
        "stopped partitions": (services.ASSIGNED, services.stopped_partitions, "none"),
        "log gaps": (services.ASSIGNED, services.log_gaps, "no record was deleted unread"),
        "set-aside events": (services.SET_ASIDE, services.set_aside, "every type is known"),
        "broker": (services.BROKER_ANSWER, silences, f"answers every process within {silence}"),
        "database clock": (services.SKEW, services.database_clocks, "agrees with every process's clock"),
    }


def _without_address(found: Processes, expected: Expected) -> list[str]:
    """The services without an address; none if a process is of an unknown service, since it may be any of
    them."""
    named = {process.service for process in found}
    return sorted(expected.services.keys() - named) if named <= expected.services.keys() else []


def _log(found: Seen[Log], expected: Expected) -> Iterator[Finding]:
    if isinstance(found, Unseen):
        yield unseen("topics, replicas", found)
        return
    topics = partial(stores.topics, expected=expected)
    yield from examine(
        "topics", found, topics, lambda log: f"{len(log.topics)} are as expected on {log.brokers} brokers"
    )
    yield from examine("replicas", found, stores.replicas, "every partition has a leader and is in sync")


def _store(found: Seen[Store], expected: Expected, now: datetime) -> Iterator[Finding]:
    if isinstance(found, Unseen):
        yield unseen("replica set, oplog, migrations, indexes, vault keys", found)
        return
    yield from examine(
        "replica set", found.members, stores.members, lambda ms: f"{len(ms)} members, with a primary"
    )
    yield from examine(
        "oplog", found.oplog_seconds, stores.oplog, lambda s: f"holds {s / 86400:.0f} days once full"
    )
    yield from examine(
        "clocks",
        found.skew,
        partial(services.clock, "MongoDB"),
        "MongoDB's clock agrees with this machine's",
    )
    for service, stored in found.databases.items():
        wanted = expected.services[service]
        migrations = partial(stores.migrations, expected=wanted)
        indexes = partial(stores.indexes, expected=wanted)
        keyring = partial(stores.keyring, service=service, now=now)
        yield from examine("migrations", stored, migrations, f"{service} has all")
        yield from examine("indexes", stored, indexes, f"{service} has all")
        if KEYS in wanted.indexes:
            yield from examine("vault keys", stored, keyring, f"{service} has the keys of its documents")


def _watch(found: Seen[Monitoring], expected: Expected) -> Iterator[Finding]:
    if isinstance(found, Unseen):
        yield unseen("alerts", found)
        return
    rules = partial(trust.rules, expected=expected)
    yield from examine("alerts", found, rules, lambda w: f"{len(w.rules)} rules are loaded and evaluated")
    yield from examine("targets", found, trust.targets, "Prometheus scrapes all its targets")
    yield from examine(
        "alerts", found, trust.told, lambda w: f"{len(w.alertmanagers)} Alertmanagers are notified"
    )
