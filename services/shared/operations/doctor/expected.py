"""What this release expects of a deployment: topics, collections, indexes, migrations, alerts.

`expected.json` is written by `make docs` from topics.yaml, the services' migrations and subscriptions, and the alerting rules, so that
the doctor needs none of them: it is in every image.
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
    """`reads`: topics. `migrations`: their keys, as recorded. `indexes`: by collection, also of those without any."""

    reads: Sequence[str]
    migrations: Sequence[str]
    indexes: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Expected:
    topics: Sequence[TopicSpec]
    services: Mapping[str, Service]
    alerts: Sequence[str]

    def partitions(self, service: str) -> int:
        """Of all topics that the service reads."""
        return sum(topic.partitions for topic in self.topics if topic.name in self.services[service].reads)


def load() -> Expected:
    return TypeAdapter(Expected).validate_json(files(__package__).joinpath("expected.json").read_bytes())


def index(document: Mapping[str, Any]) -> dict[str, Any]:
    """An index as MongoDB lists it, or as a migration asks for it, without its name and version: two of the same are equal."""
    keys = [[name, int(direction)] for name, direction in dict(document["key"]).items()]
    return {"key": keys} | {name: document[name] for name in _OPTIONS if document.get(name)}
