from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from services.shared.loops import Loop
from services.shared.messaging import MessagingMetrics
from services.shared.runtime.supervisor import Supervisor


def supervise(**loops: Loop) -> tuple[Supervisor, CollectorRegistry]:
    registry = CollectorRegistry()
    return Supervisor(loops, MessagingMetrics(registry)), registry


async def test_a_loop_that_fails_is_restarted_and_counted() -> None:
    runs = 0

    async def flaky(stop: asyncio.Event) -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError
        await stop.wait()

    supervisor, registry = supervise(flaky=flaky)
    supervisor.start()
    await asyncio.sleep(1.5)
    await supervisor.stop(1)
    assert runs == 3
    assert registry.get_sample_value("sangathan_loop_restarts_total", {"loop": "flaky"}) == 2


async def test_loops_stop_in_the_reverse_of_their_order() -> None:
    """The relay must still run to publish what a consumer stages in its last batch."""
    ended: list[str] = []

    def loop(name: str):
        async def run(stop: asyncio.Event) -> None:
            await stop.wait()
            await asyncio.sleep(0.05)
            ended.append(name)

        return run

    supervisor, _ = supervise(**{name: loop(name) for name in ("relay", "sweeper", "consumer")})
    supervisor.start()
    await asyncio.sleep(0)
    await supervisor.stop(2)
    assert ended == ["consumer", "sweeper", "relay"]


async def test_a_loop_that_does_not_stop_is_cancelled_at_the_deadline() -> None:
    cancelled = asyncio.Event()

    async def stuck(_: asyncio.Event) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    supervisor, _ = supervise(stuck=stuck)
    supervisor.start()
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    await supervisor.stop(0.3)
    assert cancelled.is_set()
    assert asyncio.get_running_loop().time() - began < 1
