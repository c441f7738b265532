"""Settings every service shares; the only place that reads the environment.

Each field `x` is read from `SANGATHAN_X`. A secret may instead be a file named like its variable in
lower case inside `SANGATHAN_SECRETS_DIR` (the form that Docker and Kubernetes mount).
"""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FilePath, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.shared.config.kafka_security import Protocol, Security


def default_instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(BaseSettings):
    """How every setting is read; what a setting was is in no error."""

    model_config = SettingsConfigDict(
        env_prefix="SANGATHAN_",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment and, when `SANGATHAN_SECRETS_DIR` names one, the secrets directory; for a `main`.

        Raises: `SystemExit` with a line that says which setting is wrong, and how.
        """
        try:
            return cls(_secrets_dir=os.environ.get("SANGATHAN_SECRETS_DIR") or None, **values)
        except ValidationError as refused:
            raise SystemExit(f"error: settings: {_in_words(refused)}") from None


def _in_words(refused: ValidationError) -> str:
    faults = refused.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in faults)


class MongoSettings(Settings):
    """Where MongoDB is: what the services and `python -m infra.mongo` share."""

    mongo_uri: str = Field(default="mongodb://127.0.0.1:27017/?replicaSet=rs0&w=majority", repr=False)
    """User, password, `authSource` and `tls` are in it, so it is a secret: give it as a file outside development."""


class KafkaSettings(Settings):
    """Where the log is and how it is reached: what the services and `python -m infra.kafka` share."""

    kafka_bootstrap: str = "127.0.0.1:9092"
    kafka_security_protocol: Protocol = "PLAINTEXT"
    kafka_sasl_username: str = ""
    kafka_sasl_password: str = Field(default="", repr=False)
    """For SCRAM-SHA-512; a secret, too."""
    kafka_ca_file: FilePath | None = None
    """PEM. The authorities that the broker's certificate is checked against; without it, the platform's."""
    kafka_cert_file: FilePath | None = None
    kafka_key_file: FilePath | None = None
    """PEM. A certificate of our own and its key, for a broker that asks for one."""

    @property
    def kafka_security(self) -> Security:
        return Security(
            self.kafka_security_protocol,
            self.kafka_sasl_username,
            self.kafka_sasl_password,
            self.kafka_ca_file,
            self.kafka_cert_file,
            self.kafka_key_file,
        )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """A setting that would be ignored is refused: somebody believes that it protects them."""
        protocol = self.kafka_security_protocol
        password = (self.kafka_sasl_username, self.kafka_sasl_password)
        files = (self.kafka_ca_file, self.kafka_cert_file, self.kafka_key_file)
        if protocol.startswith("SASL") and not all(password):
            raise ValueError(f"{protocol} needs kafka_sasl_username and kafka_sasl_password")
        if not protocol.startswith("SASL") and any(password):
            raise ValueError(f"{protocol} has no use for kafka_sasl_*: set kafka_security_protocol=SASL_SSL")
        if not protocol.endswith("SSL") and any(files):
            raise ValueError(f"{protocol} has no use for kafka_*_file: set kafka_security_protocol=SASL_SSL")
        if self.kafka_key_file and not self.kafka_cert_file:
            raise ValueError("kafka_key_file needs kafka_cert_file")
        return self


class ServiceSettings(KafkaSettings, MongoSettings):
    """What any service needs to start; a service adds its own fields in its settings.py."""

    service: str
    """The service's name; also the default name of its database and of its consumer group."""

    instance: str = Field(default_factory=default_instance)
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    max_in_flight: int = 1024
    """Requests in progress above which the service sheds load with 429."""

    mongo_database: str = ""
    consumer_group: str = ""
    """Another name than the service's, with a database of its own, makes an instance that reads the log anew."""
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


def variable(name: str) -> str | None:
    """`SANGATHAN_<NAME>`, for the commands whose variables depend on what they are asked; None when it is not set."""
    return os.environ.get(f"SANGATHAN_{name.upper()}") or None
