"""`POST /v1/members` against a POST of the same application that checks the same token, parses the same body and does nothing."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from infra.local.ports import HOST, Ports
from infra.local.processes import Child
from infra.local.services import Surroundings, answers
from tests.bench.environment import UNITS, Environment, Figure, Ratio, best, new_topics
from tests.bench.load import post

CONNECTIONS = 256
REQUESTS = 6_000
ROUNDS = 3
GOAL = 0.4


def bodies(start: int, count: int) -> Iterator[bytes]:
    """Registrations as a sign-up form sends them, each with a phone of its own."""
    for n in range(start, start + count):
        yield orjson.dumps(
            {
                "name": "सुनीता देवी",
                "phone": f"+91{7_000_000_000 + n}",
                "unit": UNITS[n % len(UNITS)],
                "gender": "female",
                "language": "hi",
                "platforms": [{"platform": "whatsapp", "handle": f"member{n}"}],
                "consents": [
                    {"purpose": "welcome", "channel": "whatsapp", "notice": "2026-01", "language": "hi"}
                ],
            }
        )


@asynccontextmanager
async def server(env: Environment) -> AsyncIterator[int]:
    """The members service with the empty route, as a process of its own; its port."""
    prefix = await new_topics(env)
    port = Ports().take()
    around = Surroundings({"members": port}, env.mongo, env.kafka, env.keys, static_members=True)
    settings = {
        **around.environment("members", "members"),
        "SANGATHAN_KAFKA_PREFIX": prefix,
        "SANGATHAN_MONGO_DATABASE": prefix.rstrip("."),
    }
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.bench.server"]

        async def ready() -> bool:
            return await answers(port, "/readyz")

        log = Path(directory) / "server.log"
        child = Child("members", command, log, ready, env={**os.environ, **settings}, restart=False)
        await child.start()
        try:
            yield port
        finally:
            await child.stop()


async def measure(env: Environment) -> list[Ratio]:
    token = env.keys.mint("members:write", "*")
    mine: list[Figure] = []
    empty: list[Figure] = []
    async with server(env) as port:
        start = secrets.randbelow(1_000_000)
        for _ in range(ROUNDS):  # alternating, so that a noisy minute hurts both
            for path, figures in (("/v1/bench/nothing", empty), ("/v1/members", mine)):
                load = await post(HOST, port, path, token, bodies(start, REQUESTS), connections=CONNECTIONS)
                if set(load.statuses) != {201}:
                    raise RuntimeError(f"{path}: {json.dumps(dict(load.statuses))}")
                figures.append(Figure(path, load.rate))
            start += REQUESTS
    return [Ratio(f"POST accepted, {CONNECTIONS} connections, req/s", best(mine), best(empty), GOAL)]
