"""Addresses of the deployment to check: from options, the environment or a running local stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from services.shared.config.kafka_security import UNSECURED, Security
from services.shared.config.settings import KafkaSettings, MongoSettings, variable
from services.shared.operations.cli.target import OpsError, read_stack


class DoctorSettings(KafkaSettings, MongoSettings):
    """Settings named like the services' own, all empty by default: the doctor does not check what has no
    address."""

    mongo_uri: str = Field(default="", repr=False)
    kafka_bootstrap: str = ""
    kafka_prefix: str = ""
    jwks: str = ""
    prometheus_url: str = ""
    alertmanager_url: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """Addresses to check; an empty one is skipped. `urls`: the service's name (empty if unknown) and URL of
    each process."""

    urls: Sequence[tuple[str, str]] = ()
    databases: Mapping[str, str] = field(default_factory=dict)
    """Names of databases that differ from their service's name."""
    mongo: str = field(default="", repr=False)
    kafka: str = ""
    kafka_prefix: str = ""
    kafka_security: Security = UNSECURED
    jwks: str = ""
    prometheus: str = ""
    alertmanager: str = ""


def find(
    services: Sequence[str], urls: Sequence[str], databases: Sequence[str], directory: Path, **settings: str
) -> Access:
    """The addresses: `urls`, else the variables `SANGATHAN_<SERVICE>_URL`, else the stack in `directory`.
    `settings` override the environment.

    The local stack is used only when no service's address is given, so that it is never mixed with another
    deployment.

    Raises: `OpsError` when a database is not given as SERVICE=NAME, or stack.json cannot be read;
    `SystemExit` when settings contradict each other.
    """
    given = [("", url.rstrip("/")) for url in urls] or _from_environment(services)
    stack: Mapping[str, Any] = {} if given else read_stack(directory)
    processes = [(_service(name), url) for name, url in stack.get("processes", {}).items()]
    named = DoctorSettings.load(**{name: value for name, value in settings.items() if value})
    return Access(
        urls=given or processes,
        databases=dict(_database(text) for text in databases),
        mongo=named.mongo_uri or stack.get("mongo", ""),
        kafka=named.kafka_bootstrap or stack.get("kafka", ""),
        kafka_prefix=named.kafka_prefix,
        kafka_security=named.kafka_security,
        jwks=named.jwks or stack.get("jwks", ""),
        prometheus=named.prometheus_url,
        alertmanager=named.alertmanager_url,
    )


def _from_environment(services: Sequence[str]) -> list[tuple[str, str]]:
    named = ((service, variable(f"{service}_url")) for service in services)
    return [(service, url.rstrip("/")) for service, url in named if url]


def _service(process: str) -> str:
    """The service of a process: `groups-2` belongs to `groups`."""
    return process.partition("-")[0]


def _database(text: str) -> tuple[str, str]:
    service, mark, name = text.partition("=")
    if not (service and mark and name):
        raise OpsError(f"--database {text}: expected SERVICE=NAME")
    return service, name
