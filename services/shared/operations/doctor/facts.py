"""Facts about a deployment: the only input of the checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.shared.messaging import TopicState
from services.shared.operations.doctor.findings import Seen

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a service, as seen over HTTP. `skew`: seconds that its clock is ahead of this
    machine's."""

    service: str
    """The service's name, or the process's URL while the service is unknown."""
    url: str
    fault: str = ""
    """Why it did not answer; empty when it did."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why it is not ready, by readiness check."""
    skew: float = 0.0
    version: str = ""
    metrics: Seen[Mapping[str, Sequence[Sample]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.url if self.service == self.url else f"{self.service} at {self.url}"

    def values(self, name: str) -> list[Sample]:
        """The samples of a metric; none when the metrics could not be read."""
        return list(self.metrics.get(name, ())) if isinstance(self.metrics, Mapping) else []


@dataclass(frozen=True, slots=True)
class Log:
    """The Kafka cluster: the number of its brokers, and its topics by name."""

    brokers: int
    topics: Mapping[str, TopicState]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the replica set. `behind`: seconds behind the primary; None when the member holds no data,
    or without a primary."""

    name: str
    state: str
    behind: float | None


@dataclass(frozen=True, slots=True)
class Keyring:
    """The vault's keys in one database."""

    newest_at: datetime | None
    orphans: int
    """Content keys whose data key is gone."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The database of one service."""

    name: str
    collections: Collection[str]
    indexes: Mapping[str, Sequence[Mapping[str, Any]]]
    """Indexes by collection, in the form of `expected.index`."""
    migrations: Collection[str]
    keyring: Keyring | None


@dataclass(frozen=True, slots=True)
class Store:
    """MongoDB. `skew`: seconds that the primary's clock is ahead of this machine's; `oplog_seconds`: history
    that the oplog holds once full."""

    skew: float
    members: Seen[Sequence[Member]]
    oplog_seconds: Seen[float]
    databases: Mapping[str, Seen[Stored]]
    """The databases by service."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate that a host presents over TLS. `fault`: why it is not trusted."""

    where: str
    expires_at: datetime | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting rule as loaded by Prometheus. `fault`: why its last evaluation failed."""

    name: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The state of Prometheus: its alerting rules, its failing targets with the reasons, and the
    Alertmanagers it notifies."""

    rules: Sequence[Rule]
    down: Mapping[str, str]
    alertmanagers: Sequence[str]
