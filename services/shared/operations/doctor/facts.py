"""What was seen of a deployment: everything that the checks know."""

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
    """One process of a service, as it answers over HTTP. `skew`: seconds that its clock is ahead of ours."""

    service: str
    """Its address while nothing says which service it is of."""
    url: str
    fault: str = ""
    """Why it did not answer."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why it is not ready, by its own check."""
    skew: float = 0.0
    version: str = ""
    metrics: Seen[Mapping[str, Sequence[Sample]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.url if self.service == self.url else f"{self.service} at {self.url}"

    def values(self, name: str) -> list[Sample]:
        """The samples of a metric; none while they could not be read."""
        return list(self.metrics.get(name, ())) if isinstance(self.metrics, Mapping) else []


@dataclass(frozen=True, slots=True)
class Log:
    """The Kafka cluster: its nodes, and its topics by name."""

    brokers: int
    topics: Mapping[str, TopicState]


@dataclass(frozen=True, slots=True)
class Member:
    """Of the replica set. `behind`: seconds behind the primary; None where it holds no data, or nobody is primary."""

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
    """One service's database, by its `name`."""

    name: str
    collections: Collection[str]
    indexes: Mapping[str, Sequence[Mapping[str, Any]]]
    """By collection, in the form of `expected.index`."""
    migrations: Collection[str]
    keyring: Keyring | None


@dataclass(frozen=True, slots=True)
class Store:
    """MongoDB. `skew`: seconds that the primary's clock is ahead of ours; `oplog_seconds`: what the oplog holds once it is full."""

    skew: float
    members: Seen[Sequence[Member]]
    oplog_seconds: Seen[float]
    databases: Mapping[str, Seen[Stored]]
    """By service."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a host shows when it is spoken to by TLS. `fault`: why it is not to be trusted."""

    where: str
    expires_at: datetime | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting rule as Prometheus holds it. `fault`: why its last evaluation failed."""

    name: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What Prometheus knows: its alerting rules, the targets that do not answer it (with the reason), and whom it tells."""

    rules: Sequence[Rule]
    down: Mapping[str, str]
    alertmanagers: Sequence[str]
