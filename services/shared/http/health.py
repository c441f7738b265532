"""`/livez`, `/readyz` and `/metrics`: without a token, not in the schema, never shed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.shared.http.draining import Draining

Check = Callable[[], Awaitable[str | None]]
"""A readiness check: None when ready, else the reason in a few words. The reason is public."""

CHECK_SECONDS = 2.0
REMEMBER_SECONDS = 1.0


class Readiness:
    """Runs all checks at once, each with a deadline, and caches the result for a second. Not ready while
    draining."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        draining: Draining,
        *,
        check_seconds: float = CHECK_SECONDS,
        remember_seconds: float = REMEMBER_SECONDS,
    ) -> None:
        self._checks = dict(checks)
        self._draining = draining
        self._check_seconds = check_seconds
        self._remember_seconds = remember_seconds
        self._lock = asyncio.Lock()
        self._reasons: dict[str, str] = {}
        self._valid_until = 0.0

    async def reasons(self) -> dict[str, str]:
        """The reasons why the service is not ready, by check; empty when it is ready."""
        if self._draining.begun:
            return {"server": "stopping"}
        async with self._lock:
            if monotonic() >= self._valid_until:
                found = await asyncio.gather(*map(self._run, self._checks.values()))
                self._reasons = {name: why for name, why in zip(self._checks, found, strict=True) if why}
                self._valid_until = monotonic() + self._remember_seconds
        return self._reasons

    async def _run(self, check: Check) -> str | None:
        try:
            async with asyncio.timeout(self._check_seconds):
                return await check()
        except TimeoutError:
            return f"no answer in {self._check_seconds:g} s"
        except Exception as error:
            return type(error).__name__


def health_routes(readiness: Readiness, registry: CollectorRegistry) -> list[Route]:
    async def livez(_: Request) -> Response:
        return _json(200, {"live": True})

    async def readyz(_: Request) -> Response:
        reasons = await readiness.reasons()
        return _json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})

    async def metrics(request: Request) -> Response:
        content, content_type = _exposition(registry, request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    endpoints = {"/livez": livez, "/readyz": readyz, "/metrics": metrics}
    return [
        Route(path, endpoint, methods=["GET"], include_in_schema=False)
        for path, endpoint in endpoints.items()
    ]


def _json(status: int, content: object) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """OpenMetrics if `accept` prefers it, else Prometheus text."""
    try:
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
    except (ValueError, TypeError):  # `accept` has an invalid version or escaping
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
