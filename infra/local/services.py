"""The environment and the process of each service."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.keys import AUDIENCE, ISSUER, Keys
from infra.local.ports import HOST
from infra.local.processes import Child
from infra.local.secured import Secured

PEERS = {
    "members": ("groups", "notifications", "analytics"),
    "groups": ("members",),
    "notifications": ("members", "groups"),
}
"""The services that each one calls."""
SERVICES = ("members", "groups", "notifications", "analytics")


def url(port: int) -> str:
    """The address of a service on this machine."""
    return f"http://{HOST}:{port}"


@dataclass(frozen=True)
class Surroundings:
    """Addresses and keys that a service needs: all the services' ports, the stores, the keys."""

    ports: Mapping[str, int]
    mongo: str
    kafka: str
    keys: Keys
    static_members: bool
    """Whether a restarted process rejoins its consumer group as the same member. The embedded broker needs
    this: it never expires a dead member, so its partitions would stay with it."""
    secured: Secured | None = None
    """If set, the URI of MongoDB is among a service's secrets."""

    def environment(self, service: str, replica: str) -> dict[str, str]:
        """The SANGATHAN_* variables of one process of a service."""
        values = {
            "HTTP_HOST": HOST,
            "HTTP_PORT": str(self.ports[replica]),
            "MONGO_URI": self.mongo,
            "MONGO_DATABASE": service,
            "KAFKA_BOOTSTRAP": self.kafka,
            "JWKS": str(self.keys.jwks),
            "REVOKED_TOKENS": str(self.keys.revoked),
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "INSTANCE": f"{replica}-local",
        }
        if self.static_members:
            values["KAFKA_GROUP_INSTANCE_ID"] = f"{replica}-local"
        if secrets := self.keys.secrets_of(service):
            values["SECRETS_DIR"] = str(secrets)
        if self.secured:
            del values["MONGO_URI"]
            values |= self.secured.environment(service)
        if service == "members":  # a second run of the demo registers the same phones again, and none waits
            values |= {name: str(10**9) for name in ("TAKEN_PHONES_BURST", "IMPORTS_WELCOME_PER_HOUR")}
        if service == "groups":  # nobody waits for three days to see somebody invited again
            values["REINVITE_DAYS"] = "0.00001"
        if peers := PEERS.get(service):
            values["SERVICE_TOKEN_FILE"] = str(self.keys.service_token(service))
            values |= {f"{peer.upper()}_URL": url(self.ports[peer]) for peer in peers if peer in self.ports}
        return {f"SANGATHAN_{name}": value for name, value in values.items()}


def replicas(service: str, count: int) -> list[str]:
    """The names of a service's processes: `groups`, `groups-2`, ..."""
    return [service, *(f"{service}-{n}" for n in range(2, count + 1))]


Command = Callable[[str], Sequence[str]]
"""The command that starts a service, given its name."""


def module(service: str) -> Sequence[str]:
    """The production command: `python -m services.<service>`."""
    return [sys.executable, "-m", f"services.{service}"]


def service(
    command: Sequence[str],
    replica: str,
    log_file: Path,
    port: int,
    environment: Mapping[str, str],
    *,
    restart: bool,
) -> Child:
    """One process of a service; ready when /readyz answers 200."""
    # Settings come from the stack alone: a SANGATHAN_* of the caller's shell must not leak into it.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SANGATHAN_")}

    async def ready() -> bool:
        return await answers(port, "/readyz")

    # Importing takes about two seconds of processor time, and all four do it at once.
    return Child(
        replica, command, log_file, ready, env={**inherited, **environment}, restart=restart, ready_within=180
    )


async def answers(port: int, path: str) -> bool:
    """Whether a GET on this machine is answered with 200 within 2 s.

    Written by hand because it runs many times a second while the starting services need the processor.
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
