"""Kafka access rules, read from access.yaml, which `python -m infra.generate` writes from the services' code.

A service may write its own topic and its dead letters, and read its subscriptions. A service that rebuilds
itself from its own topic may read that too. Its consumer groups begin with its name: the current one, a
rebuild's, and that one's successor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

ACCESS_FILE = Path(__file__).with_name("access.yaml")


@dataclass(frozen=True, order=True)
class Rule:
    """Allow one operation. Reading or writing a topic, or reading a group, implies describing it; write
    access is all that an idempotent producer needs (KIP-679, Kafka 2.8)."""

    resource: Literal["topic", "group"]
    name: str
    pattern: Literal["literal", "prefixed"]
    operation: Literal["Read", "Write"]


@dataclass(frozen=True)
class Access:
    """One service's topics, and the prefix of its consumer groups (empty: it has none)."""

    writes: tuple[str, ...]
    reads: tuple[str, ...]
    group: str

    def rules(self) -> list[Rule]:
        rules = [Rule("topic", name, "literal", "Write") for name in self.writes]
        rules += [Rule("topic", name, "literal", "Read") for name in self.reads]
        return rules + ([Rule("group", self.group, "prefixed", "Read")] if self.group else [])


def load_access(file: Path = ACCESS_FILE) -> dict[str, Access]:
    """Access by service, which is also the name of its user."""
    document: Mapping[str, Mapping[str, list[str] | str]] = yaml.safe_load(file.read_text())
    return {
        service: Access(tuple(entry["writes"]), tuple(entry["reads"]), str(entry["group"]))
        for service, entry in document.items()
    }
