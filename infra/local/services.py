"""What each service is told through its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from infra.local.keys import AUDIENCE, ISSUER, Keys
from infra.local.processes import Child

SERVICES = ("members", "groups", "notifications", "analytics")
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Surroundings:
    """Where a service finds the rest: all the services' URLs, the stores, the keys."""

    urls: Mapping[str, str]
    mongo: str
    kafka: str
    keys: Keys

    def environment(self, service: str) -> dict[str, str]:
        """The SANGATHAN_* variables of a service."""
        values = {
            "HTTP_HOST": HOST,
            "HTTP_PORT": self.urls[service].rpartition(":")[2],
            "MONGO_URI": self.mongo,
            "MONGO_DATABASE": service,
            "KAFKA_BOOTSTRAP": self.kafka,
            "JWKS": str(self.keys.jwks),
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "INSTANCE": f"{service}-local",
        }
        if secrets := self.keys.secrets_of(service):
            values["SECRETS_DIR"] = str(secrets)
        if service == "notifications":
            values["SERVICE_TOKEN_FILE"] = str(self.keys.service_token)
            values |= {f"{peer.upper()}_URL": self.urls[peer] for peer in ("members", "groups")}
        return {f"SANGATHAN_{name}": value for name, value in values.items()}


def service(
    name: str, log_file: Path, around: Surroundings, extra: Mapping[str, str], *, restart: bool
) -> Child:
    """The child process of one service; ready when /readyz says 200."""
    # Settings come from the stack alone: a SANGATHAN_* of the caller's shell must not leak into it.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SANGATHAN_")}
    environment = {**inherited, **around.environment(name), **extra}

    async def ready() -> bool:
        return await answers(f"{around.urls[name]}/readyz")

    return Child(
        name, [sys.executable, "-m", f"services.{name}"], log_file, ready, env=environment, restart=restart
    )


async def answers(url: str) -> bool:
    """Whether a GET is answered with 200 within 2 s."""
    try:
        async with httpx2.AsyncClient(timeout=2, trust_env=False) as client:
            return (await client.get(url)).status_code == 200
    except httpx2.HTTPError:
        return False
