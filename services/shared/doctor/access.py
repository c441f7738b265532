"""Where to look: from options, the environment or a running local stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.shared.ops.target import OpsError, read_stack
from services.shared.settings import variable


@dataclass(frozen=True, slots=True)
class Access:
    """What is empty is not looked at. `urls`: of each process, with the name of its service where that is known."""

    urls: Sequence[tuple[str, str]] = ()
    databases: Mapping[str, str] = field(default_factory=dict)
    """The database of a service, where it is not the service's name."""
    mongo: str = ""
    kafka: str = ""
    kafka_prefix: str = ""
    jwks: str = ""
    prometheus: str = ""
    alertmanager: str = ""


def find(
    services: Sequence[str], urls: Sequence[str], databases: Sequence[str], directory: Path, **addresses: str
) -> Access:
    """`urls`, else the variables `SANGATHAN_<SERVICE>_URL`, else the stack in `directory`; the other `addresses` likewise.

    A local stack is not mixed into another deployment: it is asked only when no service's address is given.

    Raises: `OpsError` when a database is not named as SERVICE=NAME, or stack.json cannot be read.
    """
    given = [("", url.rstrip("/")) for url in urls] or _from_environment(services)
    stack: Mapping[str, Any] = {} if given else read_stack(directory)
    processes = [(_service(name), url) for name, url in stack.get("processes", {}).items()]

    def address(name: str) -> str:
        return addresses.get(name) or variable(_VARIABLES.get(name, name)) or stack.get(name, "")

    return Access(
        urls=given or processes,
        databases=dict(_database(text) for text in databases),
        kafka_prefix=variable("kafka_prefix") or "",
        **{name: address(name) for name in ("mongo", "kafka", "jwks", "prometheus", "alertmanager")},
    )


_VARIABLES = {
    "mongo": "mongo_uri",
    "kafka": "kafka_bootstrap",
    "prometheus": "prometheus_url",
    "alertmanager": "alertmanager_url",
}


def _from_environment(services: Sequence[str]) -> list[tuple[str, str]]:
    named = ((service, variable(f"{service}_url")) for service in services)
    return [(service, url.rstrip("/")) for service, url in named if url]


def _service(process: str) -> str:
    """`groups-2` is a process of `groups`."""
    return process.partition("-")[0]


def _database(text: str) -> tuple[str, str]:
    service, mark, name = text.partition("=")
    if not (service and mark and name):
        raise OpsError(f"--database {text}: expected SERVICE=NAME")
    return service, name
