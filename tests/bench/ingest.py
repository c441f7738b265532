"""`POST /v1/members` against an empty POST: the same application, token and body, but nothing is done."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from infra.local.ports import HOST, Ports
from infra.local.services import Surroundings, answers
from tests.bench.environment import UNITS, Environment, new_topics, process, timed_until_true
from tests.bench.figures import Figure, Ratio, best
from tests.bench.load import Load, post
from tests.bench.processor import cpu_seconds

CONNECTIONS = 256
PATHS = ("/v1/bench/nothing", "/v1/members")
GOAL = 0.5
FLOOR = 0.4
"""Reached reliably, even on a noisy machine."""


@dataclass(frozen=True)
class Server:
    """The members service with the empty route (server.py), in its own process."""

    port: int
    pid: int
    database: str


@dataclass(frozen=True)
class Posted:
    rate: float
    processor: float
    """Seconds of the service's process per request, including its relay."""


def bodies(start: int, count: int) -> Iterator[bytes]:
    """Registrations as a sign-up form sends them, each with a different phone."""
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
async def server(env: Environment) -> AsyncIterator[Server]:
    prefix = await new_topics(env)
    port = Ports().take()
    around = Surroundings({"members": port}, env.mongo, env.kafka, env.keys, static_members=False)
    settings = {
        **around.environment("members", "members"),
        "SANGATHAN_KAFKA_PREFIX": prefix,
        "SANGATHAN_MONGO_DATABASE": prefix.rstrip("."),
    }
    async with process(env, "members", "-m", "tests.bench.server", variables=settings) as child:
        await timed_until_true(lambda: answers(port, "/readyz"), seconds=60)
        yield Server(port, child.pid, prefix.rstrip("."))


async def send(env: Environment, to: Server, path: str, start: int, count: int) -> Posted:
    """Send `count` requests. Raises: `RuntimeError` when one was not accepted."""
    before = cpu_seconds(to.pid)
    load: Load = await post(
        HOST,
        to.port,
        path,
        env.keys.mint("members:write", "*"),
        bodies(start, count),
        connections=CONNECTIONS,
    )
    if set(load.statuses) != {201}:
        raise RuntimeError(f"{path}: {json.dumps(dict(load.statuses))}")
    return Posted(load.rate, (cpu_seconds(to.pid) - before) / count)


async def measure(env: Environment) -> list[Ratio]:
    rounds, count = (5, 8_000) if env.full else (3, 4_000)
    posted: dict[str, list[Posted]] = {path: [] for path in PATHS}
    async with server(env) as to:
        start = secrets.randbelow(1_000_000)
        for _ in range(rounds):  # alternating, so that a noisy minute hurts both
            for path in PATHS:
                posted[path].append(await send(env, to, path, start, count))
            start += count
    rates = {path: best([Figure(_name(path), p.rate) for p in posted[path]]) for path in PATHS}
    costs = {path: Figure(_name(path), min(p.processor for p in posted[path]) * 1e6, "us") for path in PATHS}
    empty, mine = PATHS
    return [
        Ratio(f"POST accepted, {CONNECTIONS} connections", rates[mine], rates[empty], GOAL, floor=FLOOR),
        Ratio("processor time of a POST", costs[mine], costs[empty], None, at_most=True),
    ]


def _name(path: str) -> str:
    return f"server.py {path}" if "bench" in path else path
