"""Settings that all services share, and the only module that reads the environment.

Each field `x` is read from `SANGATHAN_X`. A secret may instead be a file in `SANGATHAN_SECRETS_DIR`, named
like its variable in lower case (the form in which Docker and Kubernetes mount secrets).
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, FilePath, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from services.shared.config.kafka_security import Protocol, Security

PREFIX: Final = "SANGATHAN_"
SERVICES: Final = ("members", "groups", "notifications", "analytics")
NOT_SETTINGS: Final = frozenset(
    {"SECRETS_DIR", "TOKEN", "TOKEN_FILE", "LOCAL_BROKER", "LOCAL_PORTS", *(f"{s}_URL" for s in SERVICES)}
)
"""Variables that are no setting of a service: of this module, of the local stack, and of commands, which read
`SANGATHAN_<SERVICE>_URL` in the same container."""

AtLeastOne = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Period = Annotated[float, Field(ge=0.01, allow_inf_nan=False)]
"""Seconds between two turns of a loop: 0 would turn it without a pause."""


def default_instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(BaseSettings):
    """The base of all settings. Validation errors never quote a setting's value."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment and, if `SANGATHAN_SECRETS_DIR` is set, the secrets in that directory. For use
        in a `main`.

        Raises: `SystemExit` with one line that names the invalid setting and the reason.
        """
        try:
            return cls(_secrets_dir=_secrets_dir(), **values)
        except ValidationError as refused:
            said = _in_words(refused)
        except SettingsError as refused:  # not JSON, not UTF-8; its text names the setting, not the value
            said = str(refused)
        except OSError as refused:
            said = f"{refused.filename}: {refused.strerror}"
        raise SystemExit(f"error: settings: {said}") from None


def _secrets_dir() -> str | None:
    """Raises: `NotADirectoryError`; without it, every secret would be reported as missing."""
    directory = variable("secrets_dir")
    if directory and not Path(directory).is_dir():
        raise NotADirectoryError(0, "SANGATHAN_SECRETS_DIR names no directory", directory)
    return directory


def _in_words(refused: ValidationError) -> str:
    faults = refused.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in faults)


class MongoSettings(Settings):
    """The address of MongoDB, for the services and `python -m infra.mongo`."""

    mongo_uri: str = Field(default="mongodb://127.0.0.1:27017/?replicaSet=rs0&w=majority", repr=False)
    """Connection string of MongoDB. It holds the user, the password, `authSource` and `tls`, so it is a
    secret: outside development, mount it as a file."""


class KafkaSettings(Settings):
    """The address of Kafka and its credentials, for the services and `python -m infra.kafka`."""

    kafka_bootstrap: str = "127.0.0.1:9092"
    """Kafka brokers to connect to first, as `host:port`, separated by commas."""
    kafka_security_protocol: Protocol = "PLAINTEXT"
    """Protection of connections to Kafka: TLS with `SSL`, a password with `SASL_PLAINTEXT`, both with
    `SASL_SSL`."""
    kafka_sasl_username: str = ""
    """User name for SCRAM-SHA-512; required with a `SASL_*` protocol, refused without one."""
    kafka_sasl_password: str = Field(default="", repr=False)
    """Password for SCRAM-SHA-512, a secret; required with a `SASL_*` protocol, refused without one."""
    kafka_ca_file: FilePath | None = None
    """PEM file of the authorities that sign the broker's certificate. Unset: the authorities of the operating
    system."""
    kafka_cert_file: FilePath | None = None
    """PEM file of this client's certificate, for brokers that require one. Unset: no client certificate."""
    kafka_key_file: FilePath | None = None
    """PEM file of the private key of `kafka_cert_file`. Unset: the key is in the certificate's file."""

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
        """Refuse a setting that would have no effect: somebody believes that it protects them."""
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
    """Settings of every service; a service adds its own fields in its settings.py."""

    service: str
    """The service's name; also the default name of its database and of its consumer group."""

    instance: str = Field(default_factory=default_instance)
    """Name of this process in logs, traces and Kafka's client id. Default: host name and process id."""
    http_host: str = "127.0.0.1"
    """Address to listen on. The default accepts connections from this machine only."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """TCP port to listen on."""
    max_in_flight: AtLeastOne = 1024
    """Requests in progress above which the service answers 429 to shed load. A request whose body is still
    coming is not in progress."""
    max_in_flight_per_caller: AtLeastOne = 512
    """Requests in progress above which a caller (a token's subject) gets 429 while others are answered."""
    max_connections: AtLeastOne = 4096
    """Connections above which new ones are refused. One address, such as a load balancer's, may have half."""

    mongo_database: str = ""
    """Name of the service's database. Empty: the name of the service."""
    consumer_group: str = ""
    """Kafka consumer group. Empty: the name of the service. A new group with a new database reads the log
    from its start."""
    kafka_group_instance_id: str = ""
    """Static member id in the consumer group (KIP-345): a restarted process gets its partitions back without
    a rebalance. Empty: dynamic membership."""
    kafka_prefix: str = ""
    """Prefix of every topic and consumer group, for a cluster that several deployments share. Empty: no
    prefix."""
    on_log_gap: Literal["stop", "continue"] = "stop"
    """Policy where the log has lost records before this service read them (retention, deletion, a broker
    or topic replaced): `stop` reading that partition until an operator has looked, or `continue` with the
    oldest record that is left. Either way it is counted and alerted."""
    jwks: str = "jwks.json"
    """Path or http(s) URL of the JSON Web Key Set that verifies callers' tokens."""
    jwks_keep_seconds: Seconds = 86_400.0
    """Seconds for which keys are used after the key set was last read, while it cannot be read. Afterwards
    every token is answered 503. A key that the set no longer has is refused at once, whatever this says."""
    revoked_tokens: FilePath | None = None
    """JSON file of revoked tokens, `{"revoked": [{"sub": "asha"}, {"jti": "..."}]}`, read again within two
    seconds of a change (`ops revoke` adds to it). Unset: no single token can be revoked."""
    jwt_issuer: str = "sangathan"
    """Issuer (`iss`) that a token must name."""
    jwt_audience: str = "sangathan"
    """Audience (`aud`) that a token must name."""
    log_level: str = "INFO"
    """Lowest level that is logged: DEBUG, INFO, WARNING or ERROR."""
    log_format: Literal["json", "console"] = "json"
    """Form of log lines: `json` for machines, `console` for people."""
    otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    """Base URL of an OpenTelemetry collector (OTLP over HTTP), such as `http://collector:4318`. Empty: no
    tracing."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share (0 to 1) of the traces begun in this process that are recorded. A trace begun elsewhere follows
    its caller's decision."""

    consumer_max_batch: AtLeastOne = 500
    """Most records in one consumer transaction. 500 keep it well under 5 % of a small WiredTiger cache."""
    relay_max_batch: AtLeastOne = 1000
    """Most outbox rows that the relay publishes at once."""
    lease_seconds: Annotated[float, Field(ge=0.1)] = 5.0
    """Seconds that the relay's lease lasts: after a crash, another process takes over within this time."""
    drain_seconds: Seconds = 0.0
    """Seconds after SIGTERM in which requests are still answered while `/readyz` fails. Set it to more than
    the load balancer needs to notice. 0: no drain."""
    stop_seconds: Seconds = 6.0
    """Seconds that a stopping service gives its background loops. With the default, the exit takes less than
    10 s after the drain."""

    @property
    def database(self) -> str:
        return self.mongo_database or self.service

    @property
    def group(self) -> str:
        return self.consumer_group or self.service


def variable(name: str) -> str | None:
    """The value of `SANGATHAN_<NAME>`, for commands that build the variable's name from their arguments; None
    when unset."""
    return os.environ.get(f"{PREFIX}{name.upper()}") or None


def unknown_variables(known: Iterable[str]) -> dict[str, str | None]:
    """Variables of this deployment that name no field of `known`: a mistyped one has no effect. Each with the
    variable that it resembles."""
    names = {f"{PREFIX}{name.upper()}" for name in (*known, *NOT_SETTINGS)}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in names)
    return {name: next(iter(difflib.get_close_matches(name, names, 1, 0.8)), None) for name in unknown}
