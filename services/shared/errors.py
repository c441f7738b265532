"""Errors of our own: faults that pass or stay, and refusals of a service.

A service method raises a `ServiceError` for its caller, whoever that is: a route, an event handler, a job, a command.
It tells why in words of the service and knows nothing of HTTP. `services.shared.http.problem` maps it to a problem
document; being permanent, it ends a job as `failed` and makes a record a dead letter under the same `reason`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Location: TypeAlias = Literal["body", "query", "path", "header", "cookie"]
Extra: TypeAlias = Mapping[str, str | int | bool | None]


class TransientError(Exception):
    """A fault that passes: another service is down, a broker does not answer."""


class PermanentError(Exception):
    """No retry can help. `reason` is a word for metrics and dead letters; `detail` never quotes data."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: a JSON pointer (RFC 6901) to it, and what is wrong. `detail` never contains the value."""

    pointer: str
    detail: str
    location: Location = "body"


class ServiceError(PermanentError):
    """Raise one of the subclasses. `reason` is a slug such as `phone-already-registered`, part of the contract.

    `title` replaces the usual heading; `extra` names more facts, such as the id that a request conflicts with.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        title: str = "",
        fields: Iterable[FieldError] = (),
        extra: Extra | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.title = title
        self.fields = tuple(fields)
        self.extra = dict(extra or {})


class NotFoundError(ServiceError):
    """The thing does not exist, or lies outside the caller's subtree: the two must look the same."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("not-found", detail)


class ConflictError(ServiceError):
    """The request is sound and the present state forbids it."""


class InvalidError(ServiceError):
    """Fields break a rule that only the service can check."""

    def __init__(
        self,
        fields: Iterable[FieldError] = (),
        *,
        reason: str = "invalid-fields",
        detail: str = "",
        title: str = "",
        extra: Extra | None = None,
    ) -> None:
        super().__init__(reason, detail, title=title, fields=fields, extra=extra)


class StaleVersionError(ServiceError):
    """The object has changed since the caller read it."""

    def __init__(self) -> None:
        super().__init__("stale-version", "the object has changed; read it again")


class KeyReusedError(ServiceError):
    """An idempotency key was used before, for a request with other content."""

    def __init__(self) -> None:
        super().__init__("idempotency-key-reused", "the key was used for a request with other content")
