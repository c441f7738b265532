"""The commands as an operator runs them: each service is republished, then rebuilt and replaced by the
result."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import Person, people
from infra.local.demo.tree import codes, read_tree
from infra.local.stack import LocalStack
from services.shared.config.settings import ServiceSettings
from services.shared.contracts.catalogue import EVENTS
from services.shared.contracts.vocabulary import Purpose
from services.shared.operations.commands import ONLY_RESTORED
from tests.fixtures.rebuilding import the_log as records_of
from tests.journeys.test_kill import settled, the_log

JOINS, MORE = 300, 30
PROJECTIONS = ("groups", "notifications", "analytics")


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    env = {"groups": {"SANGATHAN_GROUP_CAPACITY": "20"}}
    async with LocalStack(tmp_path, env=env) as stack:
        yield stack


async def command(stack: LocalStack, service: str, *words: str) -> tuple[int, str]:
    """Exit status and output of `python -m services.<service> <words>`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SANGATHAN_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"services.{service}",
        *words,
        env={**inherited, **stack.environment(service)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(120):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def rebuild(stack: LocalStack, service: str, *more: str) -> tuple[int, str]:
    return await command(
        stack, service, "rebuild", "--database", f"{service}2", "--group", f"{service}2", *more
    )


async def figures(api: Api) -> dict[str, Any]:
    """Analytics' figures, except their age and the current values, which a lost link changes."""
    asked: list[tuple[str, dict[str, str]]] = [("/v1/overview", {})]
    asked += [
        ("/v1/timeseries", {"metric": m}) for m in ("members.joined", "placements.assigned", "welcomes.sent")
    ]
    answers = {path + str(query): await api.get("analytics", path, **query) for path, query in asked}
    for answer in answers.values():
        answer.pop("as_of", None)
    answers["seats"] = Counter([g["members"] async for g in api.pages("groups", "/v1/groups")])
    return answers


async def arrive(api: Api, crowd: list[Person]) -> int:
    return len(await Arrivals(api).rush(crowd, 16, lambda: None))


async def check_that_nobody_is_named(stack: LocalStack, crowd: list[Person]) -> None:
    """No name, number or handle of theirs is anywhere in the log."""
    settings = ServiceSettings(service="test", kafka_bootstrap=stack.kafka)
    log = await records_of(settings, sorted({event.topic for event in EVENTS}))
    raw = b"\n".join(part for r in log for part in (r.key or b"", r.value or b"", *(v for _, v in r.headers)))
    secrets = {s for p in crowd for s in (p["name"], p["phone"].removeprefix("+91"))} | {"sample_", "invite/"}
    assert b"member.snapshot" in raw
    assert not [secret for secret in secrets if secret.encode() in raw]


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_every_service_is_republished_rebuilt_and_replaced(own_stack: LocalStack) -> None:
    stack = own_stack
    async with Api(stack.urls, stack.token, connections=24) as api:
        answer = await api.send(
            "POST",
            "groups",
            "/v1/units/imports",
            content=read_tree().encode(),
            headers={"content-type": "text/csv"},
        )
        assert answer.status_code == 200, answer.text
        links = InviteLinks(api)
        giving = asyncio.create_task(links.keep_giving())
        crowd = list(people(JOINS + MORE, codes(read_tree()), 7))
        joined = await arrive(api, crowd[:JOINS])
        lines = await settled(api, joined)
        assert all(line.balances for line in lines), lines
        live = await figures(api)

        for service in ("members", "groups", "notifications"):
            status, said = await command(stack, service, "republish")
            assert status == 0, said
            assert "snapshot: " in said
        await settled(api, joined)
        assert await figures(api) == live, "who had lost nothing heard nothing new"

        for service, expected in zip(PROJECTIONS, (ONLY_RESTORED, ONLY_RESTORED, 0), strict=True):
            status, said = await rebuild(stack, service, "--dry-run")
            assert (status, " records" in said) == (0, True), said
            status, said = await rebuild(stack, service)
            assert status == expected, said
            status, said = await rebuild(stack, service)
            assert (status, "not empty" in said) == (1, True), said
        giving.cancel()
        await asyncio.gather(*(stack.processes[service].stop() for service in PROJECTIONS))
        for service in PROJECTIONS:
            status, said = await rebuild(stack, service, "--resume")
            assert (status, f"SANGATHAN_CONSUMER_GROUP={service}2" in said) == (0, True), said
            anew = {
                "SANGATHAN_MONGO_DATABASE": f"{service}2",
                "SANGATHAN_CONSUMER_GROUP": f"{service}2",
            }
            await stack.start_again(service, anew)
        assert await figures(api) == live

        giving = asyncio.create_task(links.keep_giving())
        joined += await arrive(api, crowd[JOINS:])
        lines = await settled(api, joined)
        giving.cancel()
        assert all(line.balances for line in lines), lines
    await check_that_nobody_is_named(stack, crowd)
    events = {e.id: e for e in await the_log(stack)}.values()
    kinds = Counter(e.type for e in events)
    assert kinds["member.joined"] == kinds["group.member_assigned"] == joined == JOINS + MORE
    welcomes = Counter(e.type for e in events if getattr(e.data, "template", None) == Purpose.WELCOME)
    # Whoever is not seen in the group is invited again when its link was lost: these are others.
    assert welcomes["notification.sent"] + welcomes["notification.suppressed"] == joined
    assert kinds["member.snapshot"] == kinds["placement.snapshot"] == JOINS
