"""Messages by gateways, under faults of the dispatcher, of the receiver of callbacks and of the gateways:
nobody gets two, and nobody is lost, for whoever got none is listed as unknown.

The stack is one of its own: here the simulators' record says what the recipients got.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Final

import pytest
import pytest_asyncio

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.gateways import Simulators
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import MOST, Person, people
from infra.local.stack import LocalStack
from tests.chaos.conftest import BROKER, REPORT, SEED
from tests.chaos.faults import FIRE_SECONDS, until
from tests.chaos.scene import PER_SECOND, Row
from tests.fixtures.patience import Patience

GATEWAYS: Final = ("whatsapp", "exotel", "smtp")
CONSENTS: Final[Mapping[tuple[str, ...], int]] = {("whatsapp",): 45, ("sms",): 40, ("email",): 15}
"""One channel each: a second message of a notification would be a fallback, or a double."""
KILLS: Final = 3
CLAIM_SECONDS: Final = 6
FAULTY: Final = 4
"""Requests in a row that a gateway answers so."""
Sent = Mapping[str, Any]


@dataclass
class Field:
    stack: LocalStack
    api: Api
    simulators: Simulators
    rows: list[Row]
    crowd: Iterator[Person]
    chance: random.Random
    known: set[str] = field(default_factory=set)

    async def suffer(self, fault: str, strike: Callable[[Field], Awaitable[int]]) -> tuple[Row, int]:
        """Let members join at a steady pace while the fault strikes, and wait until all messages have ended.
        Returns the row, and how many outcomes are not known."""
        over, arrivals = asyncio.Event(), Arrivals(self.api)
        crowd = takewhile(lambda _: not over.is_set(), islice(self.crowd, 120 * PER_SECOND))
        joining = asyncio.create_task(arrivals.walk(crowd, PER_SECOND, lambda: None))
        try:
            await asyncio.sleep(self.chance.uniform(1, 2))
            times = await strike(self)
            ended = time.monotonic()
            await asyncio.sleep(1)
        finally:
            over.set()
            accepted = {each.member_id for each in await joining}
        await self.stack.wait_ready(90)
        await self.simulators.steer_none()
        welcomes = await self._settled(accepted)
        recovery = time.monotonic() - ended
        record = await self.simulators.read(self.api)
        got = {member: len(record.messages.get(note["id"], ())) for member, note in welcomes.items()}
        unknown = {member for member, note in welcomes.items() if _is_unknown(note)}
        lost = {member for member in accepted if member not in unknown and got.get(member, 0) == 0}
        doubled = {member for member, count in got.items() if count > 1}
        doubled |= {f"{gateway.name} {n}" for gateway in record.gateways for n in range(gateway.twice)}
        row = Row(
            fault, times, len(accepted), len(accepted - lost - doubled), len(lost), len(doubled), recovery
        )
        self.rows.append(row)
        return row, len(unknown)

    async def _settled(self, accepted: set[str]) -> dict[str, Sent]:
        """The welcome of each, once all are sent or their outcome is not known, and all callbacks applied."""
        patience = Patience(60)
        while True:
            notes = [n async for n in self.api.pages("notifications", "/v1/notifications")]
            welcomes = {n["member_id"]: n for n in notes if n["member_id"] in accepted}
            states = Counter("unknown" if _is_unknown(n) else n["state"] for n in welcomes.values())
            if states["sent"] + states["unknown"] == len(accepted) and await self.simulators.at_rest():
                return welcomes
            patience.check(states)
            await asyncio.sleep(0.5)


def _is_unknown(note: Sent) -> bool:
    return note.get("held_for") == "outcome" or note.get("reason") == "outcome_unknown"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sending(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Field]:
    """A stack that sends by simulators which deliver everything and tell so."""
    env = {
        "SANGATHAN_CLAIM_SECONDS": str(CLAIM_SECONDS),
        "SANGATHAN_CALLBACK_CLAIM_SECONDS": str(CLAIM_SECONDS),
    }
    stack = LocalStack(
        tmp_path_factory.mktemp("gateways"), broker=BROKER, env={"notifications": env}, simulators="clean"
    )
    async with stack, Api(stack.urls, stack.token, connections=64) as api:
        assert stack.gateways is not None
        body = {"level": "state", "name": {"en": "Bihar", "hi": "बिहार"}}
        await api.send("PUT", "groups", "/v1/units/BR", json=body)
        giving = asyncio.create_task(InviteLinks(api).keep_giving())
        rows = request.config.stash.setdefault(REPORT, [])
        crowd = people(MOST // 4, ["BR"], SEED, first=MOST // 2, consents=CONSENTS)
        async with Simulators(stack.gateways.url("control")) as simulators:
            try:
                yield Field(stack, api, simulators, rows, crowd, random.Random(SEED))
            finally:
                giving.cancel()
                await asyncio.wait({giving})


async def killed_while_sending(scene: Field) -> int:
    """Every answer takes a while, so that some are on their way at any moment."""
    for name in GATEWAYS:
        await scene.simulators.steer(name, latency=0.3)
    return await _kill(scene)


async def killed_while_called_back(scene: Field) -> int:
    """Statuses come one by one, and over and over."""
    await scene.simulators.disorder(repeat=0.5, batch=1)
    return await _kill(scene)


async def _kill(scene: Field) -> int:
    child = scene.stack.processes["notifications"]
    for _ in range(KILLS):
        before = child.exit_codes.count(-signal.SIGKILL)
        await asyncio.sleep(scene.chance.uniform(1.5, 3))
        child.kill()
        await until(lambda before=before: child.exit_codes.count(-signal.SIGKILL) > before, "kill -9")  # type: ignore[misc]
        await child.wait_ready(60)
    return KILLS


async def bad_answers(scene: Field) -> int:
    """Each fault in turn, of messages that are taken all the same and of others that are not. A breaker may
    keep the next one waiting."""
    fired = 0
    for fault, taken in (("reset", True), ("html", False), ("garbage", True), ("hang", False)):
        for name in GATEWAYS[:2]:
            await scene.simulators.steer(name, next=FAULTY, fault=fault, taken=taken)
        deadline = time.monotonic() + FIRE_SECONDS
        while (now := sum([await scene.simulators.faults(name) for name in GATEWAYS[:2]])) == fired:
            assert time.monotonic() < deadline, f"never fired: {fault}"
            await asyncio.sleep(0.2)
        fired = now
        await scene.simulators.steer_none()
    return fired


FAULTS: Final = {
    "kill -9 of notifications while it sends by gateways": killed_while_sending,
    "gateways hang, reset, answer HTML and garbage": bad_answers,
    "kill -9 of notifications while callbacks come": killed_while_called_back,
}


@pytest.mark.timeout(360)
@pytest.mark.parametrize("fault", list(FAULTS))
async def test_nobody_gets_two_and_who_gets_none_is_listed(sending: Field, fault: str) -> None:
    row, unknown = await sending.suffer(fault, FAULTS[fault])
    assert row.times > 0
    assert row.accepted > 0
    assert (row.lost, row.doubled) == (0, 0)
    assert row.effects == row.accepted
    # A killed process leaves what it had marked; a gateway that takes nothing and says nothing leaves these.
    assert unknown <= row.accepted // 2, "most outcomes are known"
