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

OUTBOX_AGE = "sangathan_outbox_oldest_age_seconds"
LEADER = "sangathan_relay_leader"
FUSE = "sangathan_fuse_open"
LETTERS = "sangathan_dead_letters_open"
LAG = "sangathan_consumer_lag_seconds"
ASSIGNED = "sangathan_consumer_assigned_partitions"
UNREADABLE = "sangathan_auth_keys_unreadable"
EXPIRY = "sangathan_service_token_expiry_timestamp_seconds"

Processes = Sequence[Process]
_READY = {
    "mongodb": "start MongoDB, or restore its primary; the process then recovers by itself",
    "consumer": "check the fuse and the broker; the process's log has the reason (events consumer.*)",
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


def _worst(processes: Processes, metric: str) -> Mapping[str, float]:
    """The highest value of the metric, by service."""
    worst: dict[str, float] = {}
    for process in processes:
        for _, value in process.values(metric):
            worst[process.service] = max(worst.get(process.service, value), value)
    return worst
