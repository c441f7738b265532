"""Checks of the services' processes. Each takes facts and yields faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from services.shared.operations.doctor.expected import Expected
from services.shared.operations.doctor.facts import Process
from services.shared.operations.doctor.findings import Fault

SKEW_SECONDS = 5.0
OUTBOX_SECONDS = 30.0
LAG_SECONDS = 60.0
TOKEN_SECONDS = 7 * 86400.0
UNIT_SECONDS = 3600.0
SILENCE_SECONDS = 60.0
DATABASE_SKEW_SECONDS = 2.0

OUTBOX_AGE = "sangathan_outbox_oldest_age_seconds"
LEADER = "sangathan_relay_leader"
FUSE = "sangathan_fuse_open"
LETTERS = "sangathan_dead_letters_open"
LAG = "sangathan_consumer_lag_seconds"
ASSIGNED = "sangathan_consumer_assigned_partitions"
UNREADABLE = "sangathan_auth_keys_unreadable"
REVOCATIONS_UNREADABLE = "sangathan_auth_revocations_unreadable"
EXPIRY = "sangathan_service_token_expiry_timestamp_seconds"
WAITING = "sangathan_members_waiting_for_unit"
WAITING_AGE = "sangathan_members_waiting_for_unit_oldest_age_seconds"
UNPUBLISHABLE = "sangathan_relay_set_aside_rows"
SET_ASIDE = "sangathan_set_aside_open"
STOPPED = "sangathan_consumer_stopped_partitions"
GAP = "sangathan_log_gap_records_total"
BROKER_ANSWER = "sangathan_broker_last_answer_timestamp_seconds"
SKEW = "sangathan_clock_skew_seconds"

Processes = Sequence[Process]
_READY = {
    "mongodb": "start MongoDB, or restore its primary; the process then recovers by itself",
}


def answering(processes: Processes) -> Iterator[Fault]:
    for process in processes:
        if process.fault:
            yield Fault(
                f"{process.name} does not answer: {process.fault}",
                "start it; if it stopped by itself, the last lines of its log have the reason",
            )


def ready(processes: Processes) -> Iterator[Fault]:
    for process in processes:
        for check, why in process.reasons.items():
            cure = _READY.get(check, "see the log of the process")
            yield Fault(f"{process.name} is not ready: {check}: {why}", cure)


def versions(processes: Processes, release: str) -> Iterator[Fault]:
    by_service: dict[str, set[str]] = {}
    for process in processes:
        if process.version:
            by_service.setdefault(process.service, set()).add(process.version)
    for service, found in by_service.items():
        if len(found) > 1:
            cure = "finish the roll-out, or roll back"
            yield Fault(f"{service} runs {' and '.join(sorted(found))} at once", cure)
        elif found != {release}:
            cure = (
                f"roll out {release}, or use the doctor of release {min(found)}, which expects other things"
            )
            yield Fault(f"{service} runs {min(found)}, but this doctor is of {release}", cure)


def clocks(processes: Processes) -> Iterator[Fault]:
    for process in processes:
        yield from clock(f"{process.name}", process.skew)


def clock(whose: str, skew: float) -> Iterator[Fault]:
    """A wrong clock spoils the dates of events and the order of ids; beyond the leeway, tokens are refused
    too."""
    if abs(skew) > SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        cure = (
            "synchronise both machines by NTP (chronyc tracking); this machine's clock may be the wrong one"
        )
        yield Fault(f"the clock of {whose} is {abs(skew):.0f} s {way} this machine's", cure)


def outboxes(processes: Processes) -> Iterator[Fault]:
    leaders = {p.service for p in processes for _, value in p.values(LEADER) if value}
    for service, age in _worst(processes, OUTBOX_AGE).items():
        if age > OUTBOX_SECONDS:
            cure = (
                "check the broker, and the service's log (loop.retrying, loop: relay); "
                "never delete rows of the outbox"
                if service in leaders
                else "no process holds the lease of its relay: "
                "check `db.leases.find()` in its database, then restart one process"
            )
            yield Fault(f"an event of {service} has waited {age:.0f} s to be published", cure)


def relays(processes: Processes) -> Iterator[Fault]:
    for service, leader in _worst(processes, LEADER).items():
        if not leader:
            cure = (
                "`db.leases.find()` in its database shows which process holds the lease; restart one process"
            )
            yield Fault(f"no process of {service} that was checked publishes its events", cure)


def fuses(processes: Processes) -> Iterator[Fault]:
    for service, is_open in _worst(processes, FUSE).items():
        if is_open:
            cure = (
                f"find the reason (`ops dead-letters summary -s {service}`), fix it, "
                f"then `ops fuse reset -s {service}`"
            )
            yield Fault(f"the fuse of {service} is open: it consumes nothing", cure)


def dead_letters(processes: Processes) -> Iterator[Fault]:
    for service, count in _worst(processes, LETTERS).items():
        if count:
            cure = (
                f"find the reason (`ops dead-letters summary -s {service}`), fix it, "
                "then replay or discard the letters"
            )
            yield Fault(f"{service} has {count:.0f} dead letters, neither replayed nor discarded", cure)


def lags(processes: Processes) -> Iterator[Fault]:
    for service, seconds in _worst(processes, LAG).items():
        if seconds > LAG_SECONDS:
            cure = (
                "if the lag falls, wait or add processes; "
                "if not, the service's log shows what it retries (consumer.retrying)"
            )
            yield Fault(f"{service} is {seconds:.0f} s behind in the log that it consumes", cure)


def assignments(processes: Processes, expected: Expected) -> Iterator[Fault]:
    """Compare by service: a single process may hold no partition when there are more processes than
    partitions."""
    held: dict[str, float] = {}
    for process in processes:
        for _, value in process.values(ASSIGNED):
            held[process.service] = held.get(process.service, 0) + value
    for service, reads in held.items():
        known = service in expected.services
        if known and reads < (total := expected.partitions(service)):
            cure = (
                "give --url of every process; wait for the rebalance; "
                "restart processes that get no partitions"
            )
            yield Fault(
                f"{service}: {reads:.0f} of {total} partitions are read by the checked processes", cure
            )


def key_sets(processes: Processes) -> Iterator[Fault]:
    for service, unreadable in _worst(processes, UNREADABLE).items():
        if unreadable:
            cure = "fix SANGATHAN_JWKS or the server of the key set: until then, new keys are not accepted"
            yield Fault(f"{service} cannot read the key set that verifies tokens", cure)
    for service, unreadable in _worst(processes, REVOCATIONS_UNREADABLE).items():
        if unreadable:
            cure = "mend the file of SANGATHAN_REVOKED_TOKENS: until then, new entries revoke nothing"
            yield Fault(f"{service} cannot read the list of revoked tokens", cure)


def service_tokens(processes: Processes, now: float) -> Iterator[Fault]:
    cure = (
        "write a new token to its file (SANGATHAN_SERVICE_TOKEN_FILE); the service reads it without a restart"
    )
    for process in processes:
        whose = f"the token with which {process.service} calls other services"
        for _, expires in process.values(EXPIRY):
            left = expires - now
            if isnan(left):
                yield Fault(f"{whose} cannot be read", cure)
            elif left < TOKEN_SECONDS:
                yield Fault(f"{whose} expires in {left / 3600:.0f} h", cure)


def pending_placements(processes: Processes) -> Iterator[Fault]:
    waiting = _worst(processes, WAITING)
    for service, age in _worst(processes, WAITING_AGE).items():
        if age > UNIT_SECONDS:
            count = waiting.get(service, 0)
            cure = (
                "list them (`GET /v1/placements?state=waiting_unit`): load the units that are missing, "
                "or move members whose unit is mistyped"
            )
            yield Fault(
                f"{count:.0f} members wait for units that do not exist, one for {age / 3600:.0f} h", cure
            )


def unpublishable(processes: Processes) -> Iterator[Fault]:
    """Rows that the relay has set aside; each process counts the same rows."""
    cure = (
        "cure the reason (runbook, OutboxSetAside): a topic that is missing or denied, or an event too large"
    )
    for (service, topic, reason), count in _by_labels(processes, UNPUBLISHABLE, "topic", "reason", most=True):
        yield Fault(f"{count:.0f} events of {service} cannot be published to {topic}: {reason}", cure)


def set_aside(processes: Processes) -> Iterator[Fault]:
    for service, count in _worst(processes, SET_ASIDE).items():
        if count:
            cure = (
                "finish the roll-out of the release that knows them; it applies them by itself "
                f"(`ops dead-letters list -s {service} --state set_aside`)"
            )
            yield Fault(f"{service} has set aside {count:.0f} events of types that it does not know", cure)


def stopped_partitions(processes: Processes) -> Iterator[Fault]:
    cure = "see the chapter of the runbook for the reason; the process tries again by itself"
    for (service, topic, reason), count in _by_labels(processes, STOPPED, "topic", "reason"):
        yield Fault(f"{service} cannot read on in {count:.0f} partitions of {topic}: {reason}", cure)


def log_gaps(processes: Processes) -> Iterator[Fault]:
    cure = (
        "publish the state of the topic's service again (`republish`, runbook), and set the topic's "
        "retention to -1; a restart of the process clears this line"
    )
    for (service, topic), count in _by_labels(processes, GAP, "topic"):
        yield Fault(f"{topic} lost {count:.0f} records before {service} read them", cure)


def broker_silences(processes: Processes, now: float) -> Iterator[Fault]:
    for process in processes:
        for labels, at in process.values(BROKER_ANSWER):
            if at and now - at > SILENCE_SECONDS:
                cure = "check the brokers and the network; the process connects again by itself"
                call = labels.get("call", "call")
                yield Fault(f"no broker has answered a {call} of {process.name} for {now - at:.0f} s", cure)


def database_clocks(processes: Processes) -> Iterator[Fault]:
    for process in processes:
        for _, skew in process.values(SKEW):
            if abs(skew) > DATABASE_SKEW_SECONDS:
                way = "ahead of" if skew > 0 else "behind"
                cure = "synchronise the machines of both by NTP (chronyc tracking)"
                yield Fault(f"the clock of {process.name} is {abs(skew):.0f} s {way} MongoDB's", cure)


def _by_labels(
    processes: Processes, metric: str, *names: str, most: bool = False
) -> Iterator[tuple[tuple[str, ...], float]]:
    """The positive sums of a metric by service and labels; with `most`, the maxima."""
    found: dict[tuple[str, ...], float] = {}
    for process in processes:
        for labels, value in process.values(metric):
            key = (process.service, *(labels.get(name, "") for name in names))
            found[key] = max(found.get(key, 0), value) if most else found.get(key, 0) + value
    yield from ((key, value) for key, value in sorted(found.items()) if value > 0)


def _worst(processes: Processes, metric: str) -> Mapping[str, float]:
    """The highest value of the metric, by service."""
    worst: dict[str, float] = {}
    for process in processes:
        for _, value in process.values(metric):
            worst[process.service] = max(worst.get(process.service, value), value)
    return worst
