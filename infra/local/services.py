"""What each service is told through its environment."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local.keys import AUDIENCE, ISSUER, Keys
from infra.local.processes import Child

SERVICES = ("members", "groups", "notifications", "analytics")
HOST = "127.0.0.1"


def url(port: int) -> str:
    """The address of a service on this machine."""
    return f"http://{HOST}:{port}"


@dataclass(frozen=True)
class Surroundings:
    """Where a service finds the rest: all the services' ports, the stores, the keys."""

    ports: Mapping[str, int]
    mongo: str
    kafka: str
    keys: Keys

    def environment(self, service: str) -> dict[str, str]:
        """The SANGATHAN_* variables of a service."""
        values = {
            "HTTP_HOST": HOST,
            "HTTP_PORT": str(self.ports[service]),
            "MONGO_URI": self.mongo,
            "MONGO_DATABASE": service,
            "KAFKA_BOOTSTRAP": self.kafka,
            "JWKS": str(self.keys.jwks),
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "INSTANCE": f"{service}-local",
            # Static membership: the embedded broker never expires a member that died, so a service that comes back
            # must be known as the one that went, or its partitions stay with the dead.
            "KAFKA_GROUP_INSTANCE_ID": f"{service}-local",
        }
        if secrets := self.keys.secrets_of(service):
            values["SECRETS_DIR"] = str(secrets)
        if service == "notifications":
            values["SERVICE_TOKEN_FILE"] = str(self.keys.service_token)
            values |= {f"{peer.upper()}_URL": url(self.ports[peer]) for peer in ("members", "groups")}
        return {f"SANGATHAN_{name}": value for name, value in values.items()}


def service(
    name: str, log_file: Path, around: Surroundings, extra: Mapping[str, str], *, restart: bool
) -> Child:
    """The child process of one service; ready when /readyz says 200."""
    # Settings come from the stack alone: a SANGATHAN_* of the caller's shell must not leak into it.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SANGATHAN_")}
    environment = {**inherited, **around.environment(name), **extra}
    command, port = [sys.executable, "-m", f"services.{name}"], around.ports[name]

    async def ready() -> bool:
        return await answers(port, "/readyz")

    # Importing takes about two seconds of processor time, and all four do it at once.
    return Child(name, command, log_file, ready, env=environment, restart=restart, ready_within=60)


async def answers(port: int, path: str) -> bool:
    """Whether a GET on this machine is answered with 200 within 2 s.

    By hand, because it is asked many times a second while the services, which need the processor, are starting.
    """
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
