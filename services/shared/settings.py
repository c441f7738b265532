"""Settings every service shares; the only place that reads the environment.

Each field `x` is read from `SANGATHAN_X`. A secret may instead be a file named like its variable in
lower case inside `SANGATHAN_SECRETS_DIR` (the form that Docker and Kubernetes mount).
"""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class ServiceSettings(BaseSettings):
    """What any service needs to start; a service adds its own fields in its settings.py."""

    model_config = SettingsConfigDict(env_prefix="SANGATHAN_", extra="ignore", frozen=True)

    service: str
    """The service's name; also the default name of its database and of its consumer group."""

    instance: str = Field(default_factory=default_instance)
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    max_in_flight: int = 1024
    """Requests in progress above which the service sheds load with 429."""

    mongo_uri: str = "mongodb://127.0.0.1:27017/?replicaSet=rs0&w=majority"
    mongo_database: str = ""
    consumer_group: str = ""
    """Another name than the service's, with a database of its own, makes an instance that reads the log anew."""
    kafka_bootstrap: str = "127.0.0.1:9092"
    kafka_group_instance_id: str = ""
    """Makes this process a static member of its group (KIP-345): one that restarts takes its own place again. Empty: dynamic."""
    kafka_prefix: str = ""
    """Stands before every topic and consumer group, for clusters that several deployments share."""
    jwks: str = "jwks.json"
    """Path or http(s) URL of the JSON Web Key Set that verifies callers' tokens."""
    jwt_issuer: str = "sangathan"
    jwt_audience: str = "sangathan"
    log_level: str = "INFO"
    log_format: Literal["json", "console"] = "json"
    otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    """Base URL of an OpenTelemetry collector (OTLP over HTTP), such as `http://collector:4318`. Empty: no tracing."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the traces begun here that are recorded; one begun elsewhere is recorded if its beginning was."""

    consumer_max_batch: int = 500
    """Records per transaction: 500 keeps it well under 5 % of a small WiredTiger cache."""
    relay_max_batch: int = 1000
    lease_seconds: float = 5.0
    """How long the relay of a crashed process is missed before another takes over."""
    drain_seconds: Annotated[float, Field(ge=0)] = 0.0
    """After SIGTERM: how long requests are still answered while `/readyz` fails. More than a load balancer needs to notice."""
    stop_seconds: float = 6.0
    """Time a stopping service gives its loops; the whole exit stays under 10 s."""

    @property
    def database(self) -> str:
        return self.mongo_database or self.service

    @property
    def group(self) -> str:
        return self.consumer_group or self.service

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment and, when `SANGATHAN_SECRETS_DIR` names one, the secrets directory."""
        return cls(_secrets_dir=os.environ.get("SANGATHAN_SECRETS_DIR") or None, **values)


def variable(name: str) -> str | None:
    """`SANGATHAN_<NAME>`, for the commands whose variables depend on what they are asked; None when it is not set."""
    return os.environ.get(f"SANGATHAN_{name.upper()}") or None
