"""The expectations of this release: topics, collections, indexes, migrations, alerts.

`make docs` writes `expected.json` from topics.yaml, the services' migrations and subscriptions, and the
alerting rules. The doctor is in every image and needs only that file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pydantic import TypeAdapter

from services.shared.messaging import TopicSpec

_OPTIONS = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression")


@dataclass(frozen=True, slots=True)
class Service:
    """One service: the topics it `reads`, the ids of its `migrations`, and its `indexes` by collection (a key
    for each collection, even one without indexes)."""

    reads: Sequence[str]
    migrations: Sequence[str]
    indexes: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Expected:
    topics: Sequence[TopicSpec]
    services: Mapping[str, Service]
    alerts: Sequence[str]

    def partitions(self, service: str) -> int:
        """The number of partitions of all topics that the service reads."""
        return sum(topic.partitions for topic in self.topics if topic.name in self.services[service].reads)


def load() -> Expected:
    return TypeAdapter(Expected).validate_json(files(__package__).joinpath("expected.json").read_bytes())


def index(document: Mapping[str, Any]) -> dict[str, Any]:
    """The comparable form of an index, from MongoDB's list or from a migration: without its name and
    version."""
    keys = [[name, int(direction)] for name, direction in dict(document["key"]).items()]
    return {"key": keys} | {name: document[name] for name in _OPTIONS if document.get(name)}
