"""Derive what the doctor expects of a deployment of this release, from the code and the alerting rules.

The result is services/shared/operations/doctor/expected.json.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import yaml
from pymongo import IndexModel

from infra.composed import composed_services
from infra.kafka.topics import load_topics
from services.shared.database import Database, Migration
from services.shared.operations.doctor.expected import index
from services.shared.runtime import Service

EXPECTED_FILE = Path(__file__).parents[1] / "services" / "shared" / "operations" / "doctor" / "expected.json"
RULES = Path(__file__).with_name("prometheus") / "rules"
GENERATION = re.compile(r"\.[0-9]+\.")
"""Collections of one generation of a projection, which a later one replaces (ADR 42)."""
ENOUGH = 1000
"""Brokers: more than any cluster has, because the doctor itself caps replication at the brokers it finds."""


def expected_json() -> str:
    """The expectations as JSON, in the form of `services.shared.operations.doctor.expected.Expected`."""
    document = {
        "topics": [asdict(topic) for topic in load_topics(ENOUGH)],
        "services": {name: _service(service) for name, service in composed_services().items()},
        "alerts": _alerts(),
    }
    return json.dumps(document, indent=1) + "\n"


def _service(service: Service) -> dict[str, Any]:
    recorder = asyncio.run(_recorded(service.migrations))
    return {
        "reads": sorted(service.consumer.topics) if service.consumer else [],
        "migrations": [migration.id for migration in service.migrations],
        "indexes": {
            name: list(made.values())
            for name, made in sorted(recorder.made.items())
            if not GENERATION.search(name)
        },
    }


async def _recorded(migrations: Iterable[Migration]) -> _Recorder:
    recorder = _Recorder()
    for migration in migrations:
        await migration.apply(cast(Database, recorder))
    return recorder


class _Recorder:
    """Stand in for the database and record the indexes that migrations create, by collection and name.

    A migration that does something the recorder does not support fails here, during `make docs`.
    """

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    async def create_collection(self, name: str, **_: Any) -> None:
        """Also of a collection that an earlier migration created, which then gets another validator."""
        self.made.setdefault(name, {})

    async def command(self, _: str, collection: str, *, index: dict[str, Any]) -> None:
        """`collMod` of an index: how long documents live."""
        keys = [[name, direction] for name, direction in index["keyPattern"].items()]
        for made in self.made[collection].values():
            if made["key"] == keys:
                made["expireAfterSeconds"] = index["expireAfterSeconds"]

    def __getitem__(self, name: str) -> _RecordedCollection:
        return _RecordedCollection(self.made[name])


class _RecordedCollection:
    def __init__(self, indexes: dict[str, Any]) -> None:
        self._indexes = indexes

    async def create_indexes(self, models: Iterable[IndexModel]) -> None:
        self._indexes |= {model.document["name"]: index(model.document) for model in models}

    async def drop_index(self, name: str) -> None:
        self._indexes.pop(name, None)

    async def find_one(self, *_: Any, **__: Any) -> None:
        """A new database has no documents."""

    async def update_one(self, *_: Any, **__: Any) -> None:
        """Documents are not expected."""

    async def update_many(self, *_: Any, **__: Any) -> None:
        """Documents are not expected."""


def _alerts() -> list[str]:
    rules = [
        rule
        for file in RULES.glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]
    return sorted({rule["alert"] for rule in rules if "alert" in rule})
