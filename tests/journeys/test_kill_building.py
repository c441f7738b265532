"""A build of projections goes on where it was, however often its process is killed."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, Final

import pytest
from pymongo import MongoClient

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.people import people
from infra.local.demo.tree import codes
from infra.local.stack import LocalStack
from tests.journeys.joining import import_units
from tests.journeys.test_poison_and_stop import until_balanced
from tests.journeys.test_repair import until

CROWD: Final = 300
KILLS: Final = 6
NAMES: Final = ["members", "placements", "groups", "notifications", "units", "coverage"]


class Build:
    """One build, as its job is stored."""

    def __init__(self, client: MongoClient[dict[str, Any]], job: str) -> None:
        self._jobs = client["analytics"]["jobs"]
        self.id = job

    def row(self) -> dict[str, Any]:
        row = self._jobs.find_one({"_id": self.id})
        assert row is not None
        return row

    @property
    def steps(self) -> int:
        return int(self.row()["steps"])

    @property
    def phase(self) -> str:
        return str((self.row()["cursor"] or {}).get("phase"))


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_a_build_that_is_killed_again_and_again_ends_with_the_same_figures(tmp_path: Path) -> None:
    """Two processes, so that the other one goes on; each is killed in whatever step it is."""
    env = {"analytics": {"SANGATHAN_PROJECTION_OVERLAP_SECONDS": "1"}}
    chance = random.Random(15)
    async with (
        LocalStack(tmp_path, replicas={"analytics": 2}, env=env) as stack,
        Api(stack.urls, stack.token, connections=8) as api,
    ):
        tree = await import_units(api)
        await Arrivals(api).rush(people(CROWD, codes(tree), 7), 8, lambda: None)
        await until_balanced(api, CROWD)
        with MongoClient[dict[str, Any]](stack.mongo) as client:
            await settled(client)
        before = await figures(api)
        answer = await api.send("POST", "analytics", "/v1/projections/rebuild", json={"names": NAMES})
        assert answer.status_code == 202, answer.text
        with MongoClient[dict[str, Any]](stack.mongo) as client:
            build = Build(client, answer.json()["id"])
            struck = []
            for _ in range(KILLS):
                # The lease of a killed process ends after 30 s: its twin is killed at once, too, so that
                # the build is always found by one that starts.
                await asyncio.sleep(chance.uniform(0.0, 0.3))
                if build.row()["state"] in ("succeeded", "failed"):
                    break
                struck.append((build.phase, build.steps))
                for name in ("analytics", "analytics-2"):
                    stack.processes[name].kill()
                client["analytics"]["jobs"].update_one(
                    {"_id": build.id}, {"$set": {"lease": None}}
                )  # as if its 30 s were over
                await stack.wait_ready()
                assert await figures(api) == before, "the live ones go on"

            async def ended() -> bool:
                return build.row()["state"] in ("succeeded", "failed")

            await until(ended)
            assert build.row()["state"] == "succeeded"
            live = client["analytics"]["projections"].find_one({"_id": "live"})
            assert live is not None
            assert all(live["live"][name]["generation"] > 0 for name in NAMES)
            assert live["hold"] is None
        assert len(struck) > 1, struck
        await Arrivals(api).rush(people(50, codes(tree), 8, first=CROWD), 8, lambda: None)
        await until_balanced(api, CROWD + 50)
        drift = await api.send("POST", "analytics", "/v1/projections/drift", json={})

        async def compared() -> bool:
            return str((await api.get("analytics", "/v1/projections/drift"))["state"]) == "succeeded"

        await until(compared)
        assert drift.status_code == 202
        assert (await api.get("analytics", "/v1/projections/drift"))["result"]["found"] == 0


async def settled(client: MongoClient[dict[str, Any]]) -> None:
    """Until nothing is left to be worked out of what is live."""

    async def nothing_left() -> bool:
        live = client["analytics"]["projections"].find_one({"_id": "live"})
        assert live is not None
        generation = live["live"]["coverage"]["generation"]
        return client["analytics"][f"coverage.{generation}.unsettled"].find_one({}) is None

    await until(nothing_left)


async def figures(api: Api) -> dict[str, Any]:
    asked: dict[str, dict[str, str]] = {
        "/v1/overview": {},
        "/v1/inclusion": {},
        "/v1/coverage": {"level": "district"},
        "/v1/timeseries": {"metric": "members.joined"},
    }
    answers = {path: await api.get("analytics", path, **query) for path, query in asked.items()}
    for answer in answers.values():
        answer.pop("as_of", None)
    return answers
