"""A service that is frozen (SIGSTOP): every tool says so within seconds, and none says that all is well."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from infra.local.processes import State
from infra.local.stack import LocalStack
from infra.local.status import flows, look
from tests.journeys.test_doctor import doctor
from tests.journeys.test_repair import ops, until


@pytest.fixture
async def frozen(stack: LocalStack) -> AsyncIterator[LocalStack]:
    stack.processes["analytics"].signal(signal.SIGSTOP)
    yield stack
    stack.processes["analytics"].signal(signal.SIGCONT)
    await stack.wait_ready()


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_a_frozen_service_is_named_by_the_doctor_the_command_and_the_table(frozen: LocalStack) -> None:
    began = time.monotonic()
    states = await look(frozen)
    assert {name for name, state in states.items() if state is State.SILENT} == {"analytics"}
    assert {states[name] for name in ("members", "groups", "notifications", "kafka")} == {State.READY}
    assert time.monotonic() - began < 3
    others = dict.fromkeys(("members", "groups", "notifications"), "flow")
    await until(lambda: _flow(frozen, {**others, "analytics": ""}))

    began = time.monotonic()
    visit, (code, said) = await asyncio.gather(doctor(frozen), ops(frozen, "fuse", "show", "-s", "analytics"))
    assert (code, said.count("\n")) == (1, 1)
    assert "analytics at" in said
    assert "restart it if it hangs" in said
    assert time.monotonic() - began < 60

    assert visit.says(f"analytics at {frozen.urls['analytics']} does not answer")
    partial = f"of 3 of 4; not asked: analytics at {frozen.urls['analytics']}"
    for area in ("readiness", "partitions", "fuse", "lag", "outbox"):
        [finding] = [f for f in visit.findings if f["area"] == area]
        assert finding["verdict"] != "well" or partial in finding["said"], finding
    assert [f for f in visit.findings if f["area"] == "partitions" and partial in f["said"]]


async def _flow(stack: LocalStack, wanted: dict[str, str]) -> bool:
    """Whether the table's column says so; a service that has just started is not connected yet."""
    headers = {"Authorization": f"Bearer {stack.token}"}
    async with httpx2.AsyncClient(timeout=1, trust_env=False, headers=headers) as client:
        return await flows(stack, client) == wanted
