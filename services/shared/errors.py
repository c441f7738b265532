"""The platform's exceptions: transient and permanent faults, and the errors that a service raises.

A service method raises a `ServiceError` for any caller: a route, an event handler, a job or a command. The
error gives the reason in the service's words and knows nothing of HTTP. `services.shared.http.problem` maps
it to a problem document. Because it is permanent, it ends a job as `failed` and makes a record a dead letter,
with the same `reason`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Location: TypeAlias = Literal["body", "query", "path", "header", "cookie"]
Extra: TypeAlias = Mapping[str, str | int | bool | None]


class TransientError(Exception):
    """A fault that passes: another service is down, or a broker does not answer."""


class PermanentError(Exception):
    """A fault that no retry cures. `reason` is a slug for metrics and dead letters; `detail` never quotes
    data."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FieldError:
    """A JSON pointer (RFC 6901) to an invalid field, and what is wrong with it. `detail` never contains the
    value."""

    pointer: str
    detail: str
    location: Location = "body"


class ServiceError(PermanentError):
    """An error of a service; raise one of its subclasses. `reason` is a slug such as
    `phone-already-registered` and part of the API's contract.

    `title` replaces the usual heading; `extra` adds facts, such as the id of the conflicting object.
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
    """The object does not exist, or lies outside the caller's subtree: both must look the same to the
    caller."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("not-found", detail)


class ConflictError(ServiceError):
    """The request is valid, but the present state forbids it."""


class InvalidError(ServiceError):
    """Some fields break a rule that only the service can check."""

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


class TooManyError(ServiceError):
    """The caller has done this too often; it may try again after `retry_seconds`."""

    def __init__(self, reason: str, detail: str, retry_seconds: int) -> None:
        super().__init__(reason, detail)
        self.retry_seconds = retry_seconds


class UnavailableError(ServiceError):
    """A part of the answer is missing, because another service does not answer now; the caller may try again
    after `retry_seconds`."""

    def __init__(self, reason: str, detail: str, retry_seconds: int) -> None:
        super().__init__(reason, detail)
        self.retry_seconds = retry_seconds


class KeyReusedError(ServiceError):
    """The idempotency key was used before, for a request with other content or for what is erased."""

    def __init__(self, detail: str = "the key was used for a request with other content") -> None:
        super().__init__("idempotency-key-reused", detail)
