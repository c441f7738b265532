"""Read topics.yaml and create what it lists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from services.shared.config.kafka_security import UNSECURED, Security
from services.shared.errors import TransientError
from services.shared.messaging import TopicSpec, create_topics

TOPICS_FILE = Path(__file__).with_name("topics.yaml")


def load_topics(brokers: int, file: Path = TOPICS_FILE) -> list[TopicSpec]:
    """The topics of the file for a cluster of `brokers` nodes; replication is capped at that number."""
    document = yaml.safe_load(file.read_text())
    defaults = document["defaults"]
    return [_spec(name, entry, defaults).on(brokers) for name, entry in document["topics"].items()]


def _spec(name: str, entry: dict[str, Any], defaults: dict[str, Any]) -> TopicSpec:
    config = {**defaults["config"], **entry.get("config", {})}
    return TopicSpec(name, entry["partitions"], entry.get("replication", defaults["replication"]), config)


async def ensure_topics(
    bootstrap: str, topics: Sequence[TopicSpec], *, security: Security = UNSECURED, within: float = 30.0
) -> None:
    """Create missing topics, retrying for `within` seconds while the broker starts.

    :raises TransientError: the broker was unreachable or refused for all that time
    """
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            return await create_topics(bootstrap, topics, security)
        except TransientError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
