"""Resources of a service while nothing happens: it polls for leases, due work and metrics, and holds its
memory."""

from __future__ import annotations

import asyncio

from tests.bench.environment import Environment
from tests.bench.figures import Figure, Ratio
from tests.bench.processor import cpu_seconds, resident_bytes
from tests.bench.whole import whole

COME_TO_REST_SECONDS = 5.0
CPU = Figure("the allowance", 1.0, "% of a core")
MEMORY = Figure("the allowance", 120.0, "MB")


async def measure(env: Environment) -> list[Ratio]:
    seconds = 20.0 if env.full else 10.0
    async with whole(env) as stack:
        await asyncio.sleep(COME_TO_REST_SECONDS)
        before = {name: cpu_seconds(pid) for name, pid in stack.services.items()}
        await asyncio.sleep(seconds)
        percent = {n: (cpu_seconds(pid) - before[n]) / seconds * 100 for n, pid in stack.services.items()}
        memory = {name: resident_bytes(pid) / 1e6 for name, pid in stack.services.items()}
    return [
        ratio
        for name in percent
        for ratio in (
            Ratio(
                "idle, processor",
                Figure(f"idle.py, {name}", percent[name], "% of a core"),
                CPU,
                1.0,
                at_most=True,
            ),
            Ratio(
                "idle, resident memory",
                Figure(f"idle.py, {name}", memory[name], "MB"),
                MEMORY,
                1.0,
                at_most=True,
            ),
        )
    ]
