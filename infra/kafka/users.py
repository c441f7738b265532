"""Give each service its Kafka user (SCRAM-SHA-512) and its access-control list, and revoke any other rights
it has.

Uses librdkafka, since aiokafka's admin client supports neither users nor access-control lists.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from infra.kafka.access import Access, Rule
from services.shared.config.kafka_security import MECHANISM
from services.shared.config.settings import KafkaSettings
from services.shared.errors import TransientError

REQUEST_SECONDS = 15
ITERATIONS = 8192
PASSWORD_FILE = "sangathan_kafka_sasl_password"  # noqa: S105  a file's name
_log = logging.getLogger("infra.kafka")


@dataclass(frozen=True)
class Changes:
    """The difference between actual and wanted state. Passwords cannot be read back, so each given one is
    set."""

    grant: list[AclBinding]
    revoke: list[AclBinding]
    passwords: Mapping[str, str]

    def describe(self) -> list[str]:
        """A line for each change; of a password it shows only the user."""
        lines = [f"grant {_line(rule)}" for rule in self.grant]
        lines += [f"revoke {_line(rule)}" for rule in self.revoke]
        return lines + [f"set the password of {user}" for user in self.passwords]


class Users:
    """Users and access lists of one cluster, as its administrator. Methods raise `TransientError` on refusal
    or no answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._admin = AdminClient(_options(settings), logger=_log)

    def compare(self, access: Mapping[str, Access], passwords: Mapping[str, str]) -> Changes:
        """The changes needed for the services of `access`; ignores other users and their lists."""
        grant: list[AclBinding] = []
        revoke: list[AclBinding] = []
        for user, allowed in access.items():
            wanted = {_binding(user, rule) for rule in allowed.rules()}
            existing = set(_result(self._admin.describe_acls(_all_of(user), request_timeout=REQUEST_SECONDS)))
            grant += sorted(wanted - existing)
            revoke += sorted(existing - wanted)
        return Changes(grant, revoke, passwords)

    def apply(self, changes: Changes) -> None:
        """Set passwords and grant first, so that no service lacks a right in between."""
        if changes.passwords:
            info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
            upserts: list[UserScramCredentialAlteration] = [
                UserScramCredentialUpsertion(user, info, password.encode())
                for user, password in changes.passwords.items()
            ]
            _wait(self._admin.alter_user_scram_credentials(upserts, request_timeout=REQUEST_SECONDS))
        if changes.grant:
            _wait(self._admin.create_acls(changes.grant, request_timeout=REQUEST_SECONDS))
        if changes.revoke:
            exactly = [AclBindingFilter(*_fields(rule)) for rule in changes.revoke]
            _wait(self._admin.delete_acls(exactly, request_timeout=REQUEST_SECONDS))


def read_passwords(secrets: Path, users: Iterable[str]) -> dict[str, str]:
    """Each user's password from `<secrets>/<user>/sangathan_kafka_sasl_password`, the file that its service
    mounts.

    Raises: `OSError` when a file is missing.
    """
    return {user: (secrets / user / PASSWORD_FILE).read_text().strip() for user in users}


def _options(settings: KafkaSettings) -> dict[str, Any]:
    """The options of `Security.options` (aiokafka's) under librdkafka's names."""
    options = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": MECHANISM,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password,
        "ssl.ca.location": settings.kafka_ca_file,
        "ssl.certificate.location": settings.kafka_cert_file,
        "ssl.key.location": settings.kafka_key_file,
    }
    return {name: str(value) for name, value in options.items() if value}


def _binding(user: str, rule: Rule) -> AclBinding:
    return AclBinding(
        ResourceType[rule.resource.upper()],
        rule.name,
        ResourcePatternType[rule.pattern.upper()],
        f"User:{user}",
        "*",
        AclOperation[rule.operation.upper()],
        AclPermissionType.ALLOW,
    )


def _all_of(user: str) -> AclBindingFilter:
    any_name: Any = None
    resource = ResourceType.ANY, any_name, ResourcePatternType.ANY
    return AclBindingFilter(*resource, f"User:{user}", any_name, AclOperation.ANY, AclPermissionType.ANY)


def _fields(rule: AclBinding) -> tuple[Any, ...]:
    return (
        rule.restype,
        rule.name,
        rule.resource_pattern_type,
        rule.principal,
        rule.host,
        rule.operation,
        rule.permission_type,
    )


def _line(rule: AclBinding) -> str:
    kind, name, pattern, principal, _, operation, permission = _fields(rule)
    return f"{principal}: {permission.name} {operation.name} {kind.name} {name} ({pattern.name})".lower()


def _wait(futures: Mapping[Any, Future[Any]]) -> None:
    for future in futures.values():
        _result(future)


def _result(future: Future[Any]) -> Any:
    try:
        return future.result(REQUEST_SECONDS + 5)
    except KafkaException as error:
        raise TransientError(f"the cluster refused: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise TransientError("the cluster did not answer") from error
