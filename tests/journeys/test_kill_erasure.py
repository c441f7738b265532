"""Many are erased while all four services are killed with SIGKILL, members at several moments: each erasure
happens once, and no contact is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from pymongo import MongoClient

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.people import people
from infra.local.demo.tree import codes
from infra.local.stack import LocalStack
from services.members.core.erasures import HELD
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.members import TOPIC, MemberErased, MemberErasureRequested
from tests.fixtures.patience import Patience
from tests.journeys.joining import import_units
from tests.journeys.test_erasure import knowing
from tests.journeys.test_kill import read, the_log

CROWD: Final = 60
AT_ONCE: Final = 6
BLOWS: Final = (
    ("groups", "requested", 6),
    ("analytics", "requested", 10),
    ("notifications", "requested", 14),
    ("members", "requested", 20),
    ("members", "acknowledged", 15),
    ("members", "erased", 15),
)
"""The service that is killed, once so many erasures have come so far."""
REACHED: Final[dict[str, dict[str, Any]]] = {
    "requested": {},
    "acknowledged": {"$or": [{name: {"$ne": None}} for name in ("groups", "notifications", "analytics")]},
    "erased": {"state": "erased"},
}


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    """Requests are published again so soon that the kills fall among several attempts."""
    env = {"members": {"SANGATHAN_ERASURE_AGAIN_SECONDS": "0.5"}}
    async with LocalStack(tmp_path, env=env) as stack:
        yield stack


@pytest.mark.heavy
@pytest.mark.timeout(240)
async def test_each_erasure_happens_once_whoever_is_killed_when(own_stack: LocalStack) -> None:
    stack = own_stack
    async with Api(stack.urls, stack.token, connections=AT_ONCE + 8) as api:
        tree = await import_units(api)
        accepted = await Arrivals(api).rush(people(CROWD, codes(tree), 7), AT_ONCE, lambda: None)
        phones = [str(each["phone"]) async for each in api.pages("members", "/v1/members")]
        with MongoClient[dict[str, Any]](stack.mongo) as client:
            indexes = [row["phone_index"] for row in client["members"]["members"].find({})]
            members = [each.member_id for each in accepted]
            others = asyncio.Event()
            asking = asyncio.create_task(erase_all(api, members, others))
            struck = [await strike(stack, client, *blow) for blow in BLOWS[:-1]]
            others.set()
            struck.append(await strike(stack, client, *BLOWS[-1]))
            erasures = await asking
            await stack.wait_ready()
            await ended(client, len(members))
            assert 0 < struck[-1] < CROWD, f"the last blow fell too early or late: {struck}"
            held = ("members", *(name for name, _ in HELD), "erasure_seals")
            left = {name: client["members"][name].count_documents({}) for name in held}
            assert left == dict.fromkeys(held, 0)
            for row in client["members"]["erasures"].find({"number": {"$exists": True}}):
                assert any(removal.get("done_at") is None for removal in row["removals"])
        blows = [name for name, _, _ in BLOWS]
        assert {name: stack.processes[name].restarts for name in blows} == {n: blows.count(n) for n in blows}
        assert len(set(erasures)) == len(members)
        shown = [each async for each in api.pages("members", "/v1/erasures", state="erased")]
        assert {each["id"] for each in shown} == set(erasures)
        assert all(all(each["acknowledgements"].values()) for each in shown)
        assert knowing(stack, *phones, *indexes) == {}
        lines = await read(api)
        assert all(line.balances for line in lines), lines
    check_the_log(await the_log(stack), members)


async def erase_all(api: Api, members: Iterable[str], others: asyncio.Event) -> list[str]:
    """The ids of the erasures, of which the second half waits for `others`: so there are some to be struck
    however fast the first half ends. A broken connection is asked again, as any caller would."""
    waiting, ids = iter(enumerate(members)), []

    async def door() -> None:
        for n, member_id in waiting:
            if n >= CROWD // 2:
                await others.wait()
            answer = await api.send("POST", "members", f"/v1/members/{member_id}/erasure")
            assert answer.status_code == 202, answer.text
            ids.append(str(answer.json()["id"]))

    async with asyncio.TaskGroup() as doors:
        for _ in range(AT_ONCE):
            doors.create_task(door())
    return ids


async def strike(
    stack: LocalStack, client: MongoClient[dict[str, Any]], name: str, state: str, count: int
) -> int:
    """Kill a service that runs once `count` erasures have come so far; how many had ended then."""
    await stack.processes[name].wait_ready()
    erasures, deadline = client["members"]["erasures"], time.monotonic() + 60
    while erasures.count_documents(REACHED[state]) < count:
        assert time.monotonic() < deadline, (name, state)
        await asyncio.sleep(0.005)
    stack.processes[name].kill()
    return erasures.count_documents(REACHED["erased"])


async def ended(client: MongoClient[dict[str, Any]], count: int) -> None:
    patience = Patience()
    while (found := client["members"]["erasures"].count_documents(REACHED["erased"])) < count:
        patience.check(f"{found} of {count} have ended")
        await asyncio.sleep(0.1)


def check_the_log(events: list[Envelope[Event]], members: Iterable[str]) -> None:
    """A record may be there more than once; each event is one, and no sequence has a gap."""
    told: dict[str, dict[int, Event]] = {}
    for event in {each.id: each for each in events if each.data.topic == TOPIC}.values():
        assert event.sequence not in told.setdefault(event.subject, {}), event
        told[event.subject][event.sequence] = event.data
    for member_id in members:
        mine = [told[member_id][number] for number in sorted(told[member_id])]
        assert sorted(told[member_id]) == list(range(1, len(mine) + 1))
        requests = [each.attempt for each in mine if isinstance(each, MemberErasureRequested)]
        assert requests == list(range(1, len(requests) + 1))
        assert [type(each) for each in mine].count(MemberErased) == 1
        assert isinstance(mine[-1], MemberErased)
