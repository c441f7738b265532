"""Every process of every service is restarted under load: no request fails, and the books balance."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from infra.local.demo.api import Api
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import people
from infra.local.ports import Ports
from infra.local.services import SERVICES, replicas, url
from infra.local.stack import LocalStack
from tests.fixtures.balancer import Balancer, balancing, port_of
from tests.journeys.test_kill import settled
from tests.journeys.test_poison_and_stop import load_tree

DRAIN_SECONDS = 5.0
"""The balancer polls every 0.2 s, and every client uses each of its connections well within this time."""
EXIT_SECONDS = 10.0
WRITERS, READERS = 4, 4
PAUSE = 0.1


class Load:
    """Clients with keep-alive connections and without retries."""

    def __init__(self, urls: dict[str, str], token: str) -> None:
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}
        self._stop = asyncio.Event()
        self.joined: list[str] = []
        self.answered = 0
        self.failed: list[str] = []
        """Every answer other than 2xx: request, outcome, duration."""

    async def run(self) -> None:
        """Run until `stop`."""
        crowd = people(20_000, ["BR-GAYA"], 8)
        async with asyncio.TaskGroup() as clients:
            for _ in range(WRITERS):
                clients.create_task(self._write(crowd))
            for _ in range(READERS):
                clients.create_task(self._read())

    def stop(self) -> None:
        self._stop.set()

    async def _write(self, crowd: Iterator[dict[str, Any]]) -> None:
        async with self._client() as client:
            for person in crowd:
                if self._stop.is_set():
                    return
                headers = {"Idempotency-Key": str(uuid.uuid4())}
                answer = await self._send(
                    client, "POST", "members", "/v1/members", json=person, headers=headers
                )
                if answer is not None and answer.status_code == 201:
                    self.joined.append(answer.json()["id"])
                await asyncio.sleep(PAUSE)

    async def _read(self) -> None:
        asked = itertools.cycle(
            [
                ("groups", "/v1/groups?limit=5"),
                ("notifications", "/v1/notifications?limit=5"),
                ("analytics", "/v1/overview?unit=BR"),
                ("members", "/v1/members?limit=5"),
            ]
        )
        async with self._client() as client:
            while not self._stop.is_set():
                service, path = next(asked)
                await self._send(client, "GET", service, path)
                await asyncio.sleep(PAUSE)

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(headers=self._headers, timeout=20, trust_env=False)

    async def _send(
        self, client: httpx2.AsyncClient, method: str, service: str, path: str, **options: Any
    ) -> httpx2.Response | None:
        began = time.monotonic()
        answer, outcome = None, ""
        try:
            answer = await client.request(method, self._urls[service] + path, **options)
            outcome = f"{answer.status_code}"
        except httpx2.HTTPError as error:
            outcome = type(error).__name__
        self.answered += 1
        if answer is None or not answer.is_success:
            self.failed.append(f"{method} {service}: {outcome} after {time.monotonic() - began:.2f} s")
        return answer


class Rolling(LocalStack):
    """Two processes of each service; callers and other services reach them through a balancer."""

    def __init__(self, directory: Path, ports: dict[str, int], drain_seconds: float) -> None:
        self.balanced = {name: url(port) for name, port in ports.items()}
        peers = {f"SANGATHAN_{name.upper()}_URL": self.balanced[name] for name in ("members", "groups")}
        drain = {"SANGATHAN_DRAIN_SECONDS": str(drain_seconds)}
        super().__init__(
            directory,
            replicas=dict.fromkeys(SERVICES, 2),
            env={name: drain | (peers if name == "notifications" else {}) for name in SERVICES},
        )

    async def restart(self, name: str, balancer: Balancer) -> float:
        """SIGTERM one process; returns the seconds until its exit, once its successor is in the balancer."""
        child, port = self.processes[name], port_of(self.urls[name])
        began, exits = time.monotonic(), len(child.exit_codes)
        child.signal(signal.SIGTERM)
        while len(child.exit_codes) == exits:
            assert time.monotonic() - began < 30, f"{name} does not stop"
            await asyncio.sleep(0.02)
        gone = time.monotonic() - began
        await child.wait_ready()
        await balancer.until_ready([port])
        return gone


@contextlib.asynccontextmanager
async def rolling(
    directory: Path, drain_seconds: float
) -> AsyncIterator[tuple[Rolling, dict[str, Balancer]]]:
    spare = Ports()
    ports = {name: spare.take() for name in SERVICES}
    async with (
        balancing(ports) as balancers,
        Rolling(directory, ports, drain_seconds) as stack,
        contextlib.AsyncExitStack() as watching,
    ):
        for name, balancer in balancers.items():
            processes = [port_of(stack.urls[replica]) for replica in replicas(name, 2)]
            for port in processes:
                watching.callback(asyncio.create_task(balancer.watch(port)).cancel)
            await balancer.until_ready(processes)
        yield stack, balancers


async def until_counted(api: Api) -> None:
    """Wait until analytics knows the unit, which it learns by event."""
    async with asyncio.timeout(30):
        while (await api.send("GET", "analytics", "/v1/overview?unit=BR")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_a_rolling_restart_of_everything_fails_no_request_and_the_books_balance(tmp_path: Path) -> None:
    async with (
        rolling(tmp_path, DRAIN_SECONDS) as (stack, balancers),
        Api(stack.balanced, stack.token, connections=8) as api,
    ):
        await load_tree(api)
        await until_counted(api)
        links = InviteLinks(api)
        giving = asyncio.create_task(links.keep_giving())
        load = Load(stack.balanced, stack.token)
        loading = asyncio.create_task(load.run())
        exits: dict[str, float] = {}
        for service in SERVICES:
            for name in replicas(service, 2):
                before = load.answered
                exits[name] = await stack.restart(name, balancers[service])
                assert load.answered > before + 20, "that was no load"
        load.stop()
        await loading
        lines = await settled(api, len(load.joined))
        giving.cancel()

        assert {name: balancer.refused for name, balancer in balancers.items()} == {n: [] for n in SERVICES}
        assert load.failed == [], exits
        for name, seconds in exits.items():
            assert stack.processes[name].exit_codes == [0], name
            assert DRAIN_SECONDS <= seconds < DRAIN_SECONDS + EXIT_SECONDS, (name, seconds)
        assert len(set(load.joined)) == len(load.joined) > 100
        assert all(line.balances for line in lines), lines
        assert set(lines[0].figures.values()) == {len(load.joined)}


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_without_a_drain_the_same_load_sees_failures(tmp_path: Path) -> None:
    """Shows that the load and the balancer of the other test can detect a stop at all."""
    async with (
        rolling(tmp_path, 0) as (stack, balancers),
        Api(stack.balanced, stack.token, connections=8) as api,
    ):
        await load_tree(api)
        await until_counted(api)
        load = Load(stack.balanced, stack.token)
        loading = asyncio.create_task(load.run())
        for name in ("members", "groups", "analytics") * 4:  # a stop shows only when a request hits it
            await asyncio.sleep(0.5)
            await stack.restart(name, balancers[name])
            if load.failed:
                break
        load.stop()
        await loading
        assert load.failed
