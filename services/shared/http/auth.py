"""Authentication: verifies JSON Web Tokens (RFC 7519), turns them into identities and caches the result."""

from __future__ import annotations

import asyncio
import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError, SecurityWarning
from starlette.requests import Request

from services.shared.clock import Clock
from services.shared.http.keys import KeysGone, KeySource, KeysUnavailable, VerificationKey, key_source
from services.shared.http.problem import Problem
from services.shared.http.revocations import CLAIM, POLL_SECONDS, RevocationList
from services.shared.identity import ALL_UNITS, Identity

# RFC 9864 renames "EdDSA" to "Ed25519"; issuers still write EdDSA, and our keys allow no other curve.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

_log = structlog.get_logger("sangathan.auth")

LEEWAY_SECONDS = 5
"""Tolerance for clocks that differ. Small, because a token lives for minutes."""
REMEMBER_SECONDS = 3600
"""Longest time that a verified token is cached; a longer-lived token is verified again."""
MAX_REMEMBERED = 4096
MAX_TOKEN_CHARS = 8192
KEEP_KEYS_SECONDS = 86_400.0
"""Seconds for which keys are used after their set was last read."""
GONE_SECONDS = 5.0
"""Seconds for which keys outlive the file of their set, which may just be being replaced."""

_UNIT = re.compile(r"\*|[A-Z0-9]{1,12}(-[A-Z0-9]{1,12}){0,7}")
_IDENTITY = "sangathan.identity"
_EPOCH = datetime.min.replace(tzinfo=UTC)
_AGAIN = {"Retry-After": "5"}


class Authenticator:
    """Verifies bearer tokens with a key set from a file or a URL, and keeps the key set up to date.

    A set that was read is believed, also an empty one. While it cannot be read, its keys are used for another
    `keep_keys_seconds`, or for `GONE_SECONDS` when its file is gone. A token in `revoked` is refused.
    `unit_now` says which unit stands for a token's.
    """

    def __init__(
        self,
        jwks: str,
        *,
        issuer: str,
        audience: str,
        clock: Clock,
        source: KeySource | None = None,
        keep_keys_seconds: float = KEEP_KEYS_SECONDS,
        revoked: RevocationList | None = None,
        on_revoked: Callable[[], None] = lambda: None,
        unit_now: Callable[[str], str | None] = lambda unit: unit,
    ) -> None:
        self._source = source or key_source(jwks)
        self._clock = clock
        self._keep_keys = timedelta(seconds=keep_keys_seconds)
        self._revoked = revoked
        self._on_revoked = on_revoked
        self._unit_now = unit_now
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock.now().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
        )
        self._keys: Mapping[str, VerificationKey] | None = None
        self._remembered: OrderedDict[str, tuple[Identity, datetime]] = OrderedDict()
        self._fetched_at = _EPOCH
        self._refresh_at = _EPOCH
        self._read_at = self._trusted_until = _EPOCH
        self._look_at = _EPOCH
        self._refreshing: asyncio.Task[None] | None = None
        self.keys_unreadable = False
        """Whether the last attempt to read the key set failed."""

    async def authenticate(self, token: str) -> Identity:
        """The identity of a valid token.

        Raises:
            Problem: 401 with the reason, or 503 while the key set or the list of revoked tokens has not been
                read.
        """
        now = self._clock.now()
        if now >= self._refresh_at:
            await self._keep_current(now)
        if now >= self._look_at:
            self._look(now)
        known = self._remembered.get(token)
        if known is not None and now < known[1]:
            self._remembered.move_to_end(token)
            return self._placed(known[0])
        return self._placed(await self._verify(token, now))

    def _placed(self, identity: Identity) -> Identity:
        """A unit that was retired means the one that stands for it now, and after a split none."""
        if identity.unit is None or (unit := self._unit_now(identity.unit)) == identity.unit:
            return identity
        return replace(identity, unit=unit)

    async def ready(self) -> str | None:
        """A readiness check: why no token can be verified, or None. It keeps the keys of an idle process
        current."""
        now = self._clock.now()
        if not self._keys:
            await self._refresh()
        elif now >= self._refresh_at:
            await self._keep_current(now)
        self._look(now)
        if self._revoked is not None and self._revoked.current is None:
            return "the list of revoked tokens cannot be read"
        return None if self._keys else "no keys to verify tokens with"

    def keys_age(self) -> float:
        """Seconds since the key set was last read; infinite before the first time."""
        if self._read_at is _EPOCH:
            return math.inf
        return (self._clock.now() - self._read_at).total_seconds()

    async def aclose(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._source.aclose()

    async def _keep_current(self, now: datetime) -> None:
        """Refresh the keys. Requests wait for it only when there are no keys, or when the source is cheap to
        read."""
        if not self._keys or self._source.is_cheap or now >= self._trusted_until:
            await self._refresh()
        elif self._refreshing is None:
            self._refresh_at = now + timedelta(seconds=self._source.retry_seconds)
            self._start_refresh()

    def _start_refresh(self) -> asyncio.Task[None]:
        task = self._refreshing = asyncio.create_task(self._fetch())
        task.add_done_callback(self._forget_refresh)
        return task

    def _forget_refresh(self, _: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _refresh(self) -> None:
        # All requests share one fetch; cancelling one request must not cancel it.
        await asyncio.shield(self._refreshing or self._start_refresh())

    async def _fetch(self) -> None:
        now = self._fetched_at = self._clock.now()
        wait = max(self._source.retry_seconds, 1)
        try:
            keys = await self._source.fetch()
        except KeysUnavailable as error:
            self.keys_unreadable = True
            if isinstance(error, KeysGone):
                self._trusted_until = min(self._trusted_until, now + timedelta(seconds=GONE_SECONDS))
            if now >= self._trusted_until:
                self._use(None)
            kept = len(self._keys or ())
            _log.warning("keys for tokens could not be read", reason=str(error), kept=kept)
        else:
            self.keys_unreadable = False
            self._read_at, self._trusted_until = now, now + self._keep_keys
            wait = self._source.poll_seconds
            self._use(keys)
        self._refresh_at = now + timedelta(seconds=wait)

    def _use(self, keys: Mapping[str, VerificationKey] | None) -> None:
        """No verified token outlives the key that verified it."""
        if keys is not self._keys:
            self._keys = keys
            self._remembered.clear()

    def _look(self, now: datetime) -> None:
        """Read the list of revoked tokens again if it has changed."""
        self._look_at = now + timedelta(seconds=POLL_SECONDS)
        if self._revoked is not None and self._revoked.refresh():
            self._remembered.clear()

    async def _verify(self, token: str, now: datetime) -> Identity:
        key = await self._key_for(token, now)
        try:
            claims = jwt.decode(token, key.key, algorithms=[key.algorithm]).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise unauthenticated(_reason(error)) from error
        identity = _identity(claims)
        self._check_not_revoked(claims)
        since = now.timestamp()
        # Compare before subtracting: "exp" may be an integer too large for a float.
        until = min(claims["exp"] + LEEWAY_SECONDS, since + REMEMBER_SECONDS)
        self._remembered[token] = (identity, now + timedelta(seconds=until - since))
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return identity

    def _check_not_revoked(self, claims: Mapping[str, Any]) -> None:
        if self._revoked is None:
            return
        if self._revoked.current is None:
            raise Problem(503, "revocations-unavailable", "Revocations unavailable", headers=_AGAIN)
        if self._revoked.current.cover(claims):
            self._on_revoked()
            raise unauthenticated("the token has been revoked")

    async def _key_for(self, token: str, now: datetime) -> VerificationKey:
        kid = _key_id(token)
        key = self._find(kid)
        may_fetch = now >= self._fetched_at + timedelta(seconds=self._source.retry_seconds)
        if key is None and (may_fetch or self._refreshing is not None):
            await self._refresh()
            key = self._find(kid)
        if key is not None:
            return key
        if self._keys is None:
            raise Problem(503, "keys-unavailable", "Keys unavailable", headers=_AGAIN)
        raise unauthenticated("the token names an unknown key")

    def _find(self, kid: object) -> VerificationKey | None:
        """The key with this id. A token may omit the id while the set has only one key."""
        keys = self._keys or {}
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(kid) if isinstance(kid, str) else None


def unauthenticated(reason: str | None = None) -> Problem:
    """401 (RFC 6750, 3): a bare challenge without a token, else `invalid_token` with the reason."""
    challenge = 'Bearer realm="sangathan"'
    if reason is not None:
        challenge += f', error="invalid_token", error_description="{reason}"'
    detail = reason or "a bearer token is required"
    headers = {"WWW-Authenticate": challenge}
    return Problem(401, "unauthenticated", "Authentication required", detail, headers=headers)


def _forbidden(scope: str) -> Problem:
    challenge = f'Bearer realm="sangathan", error="insufficient_scope", scope="{scope}"'
    headers = {"WWW-Authenticate": challenge}
    return Problem(403, "forbidden", "Forbidden", f"the scope {scope} is required", headers=headers)


def _key_id(token: str) -> object:
    if len(token) > MAX_TOKEN_CHARS:
        raise unauthenticated("the token is too long")
    try:
        header = jws.extract_compact(token.encode()).headers()
        critical, kid = "crit" in header, header.get("kid")
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise unauthenticated("the token is malformed") from error
    if critical:  # extensions that a verifier must understand (RFC 7515, 4.1.11): we have none
        raise unauthenticated("the token cannot be verified")
    return kid


def _reason(error: Exception) -> str:
    match error:
        case ExpiredTokenError():
            return "the token has expired"
        case MissingClaimError() | InvalidClaimError():
            return "a claim of the token is missing or not acceptable"
        case _:
            return "the token cannot be verified"


def _identity(claims: Mapping[str, Any]) -> Identity:
    subject, scope, unit = claims["sub"], claims.get("scope", ""), claims.get("unit")
    named = all(isinstance(name, str) and CLAIM.fullmatch(name) for name in (subject, claims.get("jti", "-")))
    placed = unit is None or (isinstance(unit, str) and _UNIT.fullmatch(unit))
    if not (named and placed and isinstance(scope, str)):
        raise unauthenticated("a claim of the token is missing or not acceptable")
    return Identity(subject, frozenset(scope.split()), unit)


class Authenticated(Protocol):
    """The part of the application that this module needs."""

    authenticator: Authenticator


class Require(SecurityBase):
    """A dependency that returns the caller's identity: 401 without a valid token, 403 without all the scopes,
    or, `everywhere`, without the right to all units.

    It is its own OpenAPI security scheme, which saves a nested dependency on each request.
    """

    def __init__(self, *scopes: str, everywhere: bool = False) -> None:
        self.scopes = scopes
        self.everywhere = everywhere
        self.scheme_name = "bearer"
        self.model = HTTPBearer(bearerFormat="JWT")

    async def __call__(self, request: Request) -> Identity:
        identity: Identity | None = request.scope.get(_IDENTITY)
        if identity is None:
            identity = await _authenticate(request)
            request.scope[_IDENTITY] = identity
            request.app.callers.enter(request.scope, identity.subject)
        for scope in self.scopes:
            if not identity.has_scope(scope):
                raise _forbidden(scope)
        if self.everywhere and identity.unit != ALL_UNITS:
            raise Problem(403, "forbidden", "Forbidden", f"a token for all units ({ALL_UNITS}) is required")
        return identity


async def _authenticate(request: Request) -> Identity:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated()
    app: Authenticated = request.app
    return await app.authenticator.authenticate(token.strip())


def require(*scopes: str, everywhere: bool = False) -> Require:
    """A dependency for a route's parameter: `Annotated[Identity, Depends(require("members:write"))]`."""
    return Require(*scopes, everywhere=everywhere)


def subject_of(request: Request) -> str:
    """The caller's subject after `require` has passed; "" on routes without it."""
    identity: Identity | None = request.scope.get(_IDENTITY)
    return identity.subject if identity is not None else ""
