"""Checks of what the services' processes say. Each takes facts and yields faults."""

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
    "mongodb": "start MongoDB, or elect a primary; the process goes on by itself",
    "consumer": "see the fuse and the broker; its log says why (consumer.*)",
}


def answering(processes: Processes) -> Iterator[Fault]:
    for process in processes:
        if process.fault:
            yield Fault(
                f"{process.name} does not answer: {process.fault}",
                "start it; if it stopped by itself, the last lines of its log say why",
            )


def ready(processes: Processes) -> Iterator[Fault]:
    for process in processes:
        for check, why in process.reasons.items():
            cure = _READY.get(check, "its log says more")
            yield Fault(f"{process.name} is not ready: {check}: {why}", cure)


def versions(processes: Processes, release: str) -> Iterator[Fault]:
    by_service: dict[str, set[str]] = {}
    for process in processes:
        if process.version:
            by_service.setdefault(process.service, set()).add(process.version)
    for service, found in by_service.items():
        if len(found) > 1:
            cure = "finish the roll-out, or take it back"
            yield Fault(f"{service} runs {' and '.join(sorted(found))} at once", cure)
        elif found != {release}:
            cure = f"roll out {release}, or ask the doctor of that release: its expectations are others"
            yield Fault(f"{service} runs {min(found)}, and this is {release}", cure)


def clocks(processes: Processes) -> Iterator[Fault]:
    for process in processes:
        yield from clock(f"{process.name}", process.skew)


def clock(whose: str, skew: float) -> Iterator[Fault]:
    """Tokens are refused beyond a minute; dates of events and the order of ids suffer before."""
    if abs(skew) > SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        cure = "let both machines keep time by NTP (chronyc tracking); it may be this one that is wrong"
        yield Fault(f"the clock of {whose} is {abs(skew):.0f} s {way} ours", cure)


def outboxes(processes: Processes) -> Iterator[Fault]:
    leaders = {p.service for p in processes for _, value in p.values(LEADER) if value}
    for service, age in _worst(processes, OUTBOX_AGE).items():
        if age > OUTBOX_SECONDS:
            cure = (
                "see the broker and the service's log (relay.retrying); rows are never deleted by hand"
                if service in leaders
                else "nobody holds the lease of its relay: see `db.leases.find()` in its database, restart one process"
            )
            yield Fault(f"an event of {service} has waited {age:.0f} s to be published", cure)


def relays(processes: Processes) -> Iterator[Fault]:
    for service, leader in _worst(processes, LEADER).items():
        if not leader:
            cure = "see `db.leases.find()` in its database for who does; restart one process"
            yield Fault(f"no process of {service} that was asked publishes its events", cure)


def fuses(processes: Processes) -> Iterator[Fault]:
    for service, is_open in _worst(processes, FUSE).items():
        if is_open:
            cure = f"see why they died (ops dead-letters summary -s {service}), mend it, then `ops fuse reset -s {service}`"
            yield Fault(f"the fuse of {service} is open: it consumes nothing", cure)


def dead_letters(processes: Processes) -> Iterator[Fault]:
    for service, count in _worst(processes, LETTERS).items():
        if count:
            cure = f"`ops dead-letters summary -s {service}` says why they died; mend it, then replay or discard them"
            yield Fault(f"{service} has {count:.0f} dead letters that nobody has settled", cure)


def lags(processes: Processes) -> Iterator[Fault]:
    for service, seconds in _worst(processes, LAG).items():
        if seconds > LAG_SECONDS:
            cure = "if it comes down by itself, wait or add processes; if not, its log says what it retries (consumer.retrying)"
            yield Fault(f"{service} is {seconds:.0f} s behind in what it reads", cure)


def assignments(processes: Processes, expected: Expected) -> Iterator[Fault]:
    """By service: a process alone may rightly hold none, while there are more of them than partitions."""
    held: dict[str, float] = {}
    for process in processes:
        for _, value in process.values(ASSIGNED):
            held[process.service] = held.get(process.service, 0) + value
    for service, reads in held.items():
        known = service in expected.services
        if known and reads < (total := expected.partitions(service)):
            cure = "wait for the rebalance, restart what does not come back, and give --url of every process"
            yield Fault(f"{service}: {reads:.0f} of {total} partitions are read by the processes asked", cure)


def key_sets(processes: Processes) -> Iterator[Fault]:
    for service, unreadable in _worst(processes, UNREADABLE).items():
        if unreadable:
            cure = "mend SANGATHAN_JWKS or what serves it: until then no new key of its issuer is taken"
            yield Fault(f"{service} cannot read the key set that verifies tokens", cure)


def service_tokens(processes: Processes, now: float) -> Iterator[Fault]:
    cure = "put a new token into its file (SANGATHAN_SERVICE_TOKEN_FILE); it is read again by itself"
    for process in processes:
        whose = f"the token with which {process.service} calls its peers"
        for _, expires in process.values(EXPIRY):
            left = expires - now
            if isnan(left):
                yield Fault(f"{whose} cannot be read", cure)
            elif left < TOKEN_SECONDS:
                yield Fault(f"{whose} expires in {left / 3600:.0f} h", cure)


def _worst(processes: Processes, metric: str) -> Mapping[str, float]:
    """The highest value by service."""
    worst: dict[str, float] = {}
    for process in processes:
        for _, value in process.values(metric):
            worst[process.service] = max(worst.get(process.service, value), value)
    return worst
