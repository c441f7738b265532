"""Converts messages of the client libraries to our records."""

from __future__ import annotations

from typing import Any

from services.shared.contracts.members import TOPIC
from services.shared.messaging import Partition, Record


def of_aiokafka(raw: Any) -> Record:
    return record(raw.partition, raw.offset, raw.key, raw.value, raw.headers)


def record(partition: int, offset: int, key: bytes | None, value: bytes | None, headers: Any) -> Record:
    return Record(Partition(TOPIC, partition), offset, key, value, tuple(headers), 0)
