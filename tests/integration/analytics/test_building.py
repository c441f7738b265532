"""Projections built beside the live ones: nobody misses a figure, whatever goes on meanwhile."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from infra.local.keys import Keys
from services.analytics.app import build
from services.analytics.core.places import COLLECTION, FIRST, POINTER, HeldError, Pointer, Pointers
from services.analytics.projections.building import Building
from services.analytics.projections.drift import Comparison
from services.analytics.projections.store import first_pointer
from services.analytics.settings import AnalyticsSettings
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupAdminsChanged,
    GroupCreated,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberObserved,
    UnitUpserted,
)
from services.shared.contracts.members import MemberJoined, MemberMoved
from services.shared.contracts.vocabulary import LEVELS, Gender
from services.shared.ids import new_id
from services.shared.jobs import Effect, Job
from services.shared.messaging import Record, UnitOfWork
from tests.fixtures.apps import Running, base_settings, make_topics, started
from tests.integration.analytics.conftest import Analytics
from tests.unit.analytics.streams import BEGIN

NAMES = [*FIRST, "coverage"]
TREE = ("BR", "BR-SARAN", "BR-SARAN-EKMA", "BR-SARAN-EKMA-1", "BR-SARAN-EKMA-2", "BR-SARAN-EKMA-3")
BOOTHS = TREE[3:]
SCOPES = ["analytics:read", "ops:*"]


@pytest.fixture
def settings(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AnalyticsSettings:
    name = f"test_{secrets.token_hex(6)}"
    values = base_settings(mongo_uri, kafka_bootstrap, name, keys)
    return AnalyticsSettings(**values, projection_overlap_seconds=0.2)


def serving(settings: AnalyticsSettings, keys: Keys) -> AbstractAsyncContextManager[Running]:
    return started(build, settings, keys=keys, admin_scopes=SCOPES)


class Town:
    """People who join and move, and their groups; it knows what the figures must be."""

    def __init__(self, service: Running, seed: int) -> None:
        self._service = service
        self._rng = random.Random(seed)
        self.homes: dict[str, tuple[str, Gender]] = {}
        self.sent: list[Envelope[Event]] = []

    def events(self, *events: Event) -> list[Envelope[Event]]:
        made = [self._service.envelope(event) for event in events]
        self.sent += made
        return made

    def founded(self) -> list[Envelope[Event]]:
        found: list[Event] = [
            UnitUpserted(unit=code, level=LEVELS[code.count("-")], women_target=0.5 if code == "BR" else None)
            for code in TREE
        ]
        for booth in BOOTHS[:2]:
            group: dict[str, Any] = {"group_id": new_id(), "unit": booth}
            about = {"kind": "general", "ordinal": 1}
            found.append(GroupCreated(**group, **about, capacity=1000))
            found.append(GroupInviteChanged(**group, invite_ready=True))
            found.append(GroupAdminsChanged(**group, **about, admins=2 if booth == BOOTHS[0] else 1))
        return self.events(*found)

    def grown(self, count: int) -> list[Envelope[Event]]:
        """More people, half of whom get a seat, and some move."""
        made: list[Event] = []
        for _ in range(count):
            id_, home, gender = new_id(), self._rng.choice(BOOTHS), self._rng.choice(list(Gender))
            self.homes[id_] = (home, gender)
            inviter = self._rng.choice(list(self.homes)) if self._rng.random() < 0.2 else None
            about: dict[str, Any] = {"gender": gender, "language": "hi", "joined_at": BEGIN}
            made.append(MemberJoined(member_id=id_, unit=home, inviter_id=inviter, **about))
            seat: dict[str, Any] = {"member_id": id_, "group_id": new_id(), "unit": home, "kind": "general"}
            if self._rng.random() < 0.5:
                made.append(GroupMemberAssigned(**seat, ordinal=1, invite_ready=True))
                made.append(GroupMemberObserved(**seat, state="joined", observed_at=BEGIN))
            if self._rng.random() < 0.3:
                moved = self._rng.choice(BOOTHS)
                made.append(MemberMoved(member_id=id_, from_unit=home, unit=moved))
                self.homes[id_] = (moved, gender)
        return self.events(*made)

    def members(self) -> dict[str, int]:
        return {booth: sum(home == booth for home, _ in self.homes.values()) for booth in BOOTHS}


async def consumed(service: Running, events: Sequence[Envelope[Any]]) -> None:
    ids = [event.id for event in events]

    async def all_of_them() -> bool:
        return await service.runtime.database["inbox"].count_documents({"_id": {"$in": ids}}) == len(ids)

    await service.until(all_of_them)


async def ok(service: Running, path: str, **query: str) -> Any:
    answer = await service.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def figures(service: Running) -> dict[str, Any]:
    """Every kind of answer, without the time at which it was made."""
    asked = [("/v1/overview", {"unit": code}) for code in TREE]
    asked += [("/v1/inclusion", {"unit": code}) for code in TREE]
    asked += [("/v1/coverage", {"level": level}) for level in ("district", "booth")]
    asked += [("/v1/inclusion/next", {}), ("/v1/inclusion/series", {"unit": "BR"})]
    metrics = ("members.joined", "members.moved_in", "placements.assigned")
    asked += [("/v1/timeseries", {"unit": "BR", "metric": metric}) for metric in metrics]
    answers = {f"{path} {query}": await ok(service, path, **query) for path, query in asked}
    for answer in answers.values():
        answer.pop("as_of", None)
    return answers


async def settled(service: Running) -> None:
    """Only generations that are live are settled; one that was replaced may have been left half-way."""

    async def nothing_left() -> bool:
        _, live = (await generations(service))["coverage"]
        return await service.runtime.database[f"coverage.{live}.unsettled"].find_one({}) is None

    await service.until(nothing_left)


async def ended(service: Running, job_id: str) -> Any:
    """The job once it has ended."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.update(await ok(service, f"/v1/jobs/{job_id}"))
        return found["state"] in ("succeeded", "failed", "cancelled")

    try:
        await service.until(over)
    except AssertionError:
        raise AssertionError(await service.runtime.database["jobs"].find_one({"_id": job_id})) from None
    return found


def nothing_differs(drift: Any) -> None:
    found = (drift["state"], (drift["result"] or {}).get("found"))
    assert found == ("succeeded", 0), f"{drift}"  # as text, which pytest does not cut


async def begin(service: Running, path: str, **body: Any) -> str:
    answer = await service.http.post(path, json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def generations(service: Running) -> dict[str, tuple[int, int]]:
    row = await service.runtime.database[COLLECTION].find_one({"_id": POINTER})
    assert row is not None
    return {name: (at["version"], at["generation"]) for name, at in row["live"].items()}


@pytest.mark.heavy
@pytest.mark.timeout(240)
async def test_a_build_goes_live_under_traffic_and_drift_is_found(
    settings: AnalyticsSettings, keys: Keys
) -> None:
    await make_topics(settings)
    async with serving(settings, keys) as service:
        town = Town(service, 1)
        await service.publish(*town.founded(), *town.grown(300))
        await consumed(service, town.sent)
        before = await generations(service)
        stop = asyncio.Event()
        seen: list[int] = []

        async def watch() -> None:
            """No reader ever sees fewer members than before, or more than there are."""
            while not stop.is_set():
                asked = ("/v1/overview", "/v1/inclusion")
                one, other = [await ok(service, path, unit="BR") for path in asked]
                totals = (one["members"]["total"], other["members"])
                assert all(300 <= total <= len(town.homes) for total in totals), totals
                assert not seen or totals[0] >= seen[-1]
                seen.append(totals[0])

        async def traffic() -> None:
            while not stop.is_set():
                more = town.grown(10)
                await service.publish(*more)
                await consumed(service, more)

        going_on = [asyncio.create_task(watch()), asyncio.create_task(traffic())]
        job = await ended(service, await begin(service, "/v1/projections/rebuild", names=NAMES))
        assert job["state"] == "succeeded", job
        after = await generations(service)
        assert all(after[name][1] > before[name][1] for name in NAMES)
        # Nothing differs, though traffic goes on while it is looked for.
        drift = await ended(service, await begin(service, "/v1/projections/drift"))
        nothing_differs(drift)
        assert drift["result"]["keys"] > len(town.homes)
        stop.set()
        await asyncio.gather(*going_on)
        await consumed(service, town.sent)
        await settled(service)

        rebuilt = await figures(service)
        items = rebuilt["/v1/coverage {'level': 'booth'}"]["items"]
        assert {row["unit"]: row["members"] for row in items} == town.members()
        assert [row["has_admins"] for row in items] == [True, False, False]
        summary = rebuilt["/v1/coverage {'level': 'booth'}"]["summary"]
        assert (summary["with_live_group"], summary["with_admins"], summary["with_target"]) == (2, 1, 3)
        assert summary["on_target"] == sum(row["on_target"] for row in items)
        state = await ok(service, "/v1/projections")
        assert {each["name"]: each["state"] for each in state["items"]} == dict.fromkeys(NAMES, "live")

        await plant_a_difference(service)
        await service.runtime.client.drop_database(settings.database)


async def test_no_drift_is_seen_before_consumers_have_all_that_was_replayed(
    settings: AnalyticsSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records come after the replay has asked for the end of the log and before its last fetch, which reads
    them too. Consumers reach them late."""
    await make_topics(settings)
    async with serving(settings, keys) as service:
        town, late, looks = Town(service, 3), list[Envelope[Event]](), list[bool]()
        await service.publish(*town.founded(), *town.grown(20))
        await consumed(service, town.sent)

        topics = sorted({event.data.topic for event in town.sent})

        async def committed() -> bool:
            marks, ends = await service.runtime.log.marks(settings.group, topics)
            return all(marks.get(partition, 0) == end for partition, end in ends.items())

        await service.until(committed)
        fetch, follow, pointer = Building._fetch, Comparison.follow, Pointers.of

        async def last_fetch(self: Building, reading: Any, cursor: Any) -> list[Record]:
            records = await fetch(self, reading, cursor)
            if cursor["phase"] == "closing" and not late:
                late.extend(town.grown(10))
                await service.publish(*late)
                while len(records) < len(late):
                    records += await fetch(self, reading, cursor)
            return records

        async def looked(self: Comparison, job: Job, cursor: Any) -> Effect:
            looks.append(True)
            return await follow(self, job, cursor)

        async def when_looked_for_twice(self: Pointers, work: UnitOfWork) -> Pointer:
            if late and len(looks) < 2:
                raise HeldError
            return await pointer(self, work)

        monkeypatch.setattr(Building, "_fetch", last_fetch)
        monkeypatch.setattr(Comparison, "follow", looked)
        monkeypatch.setattr(Pointers, "of", when_looked_for_twice)
        drift = await ended(service, await begin(service, "/v1/projections/drift"))
        nothing_differs(drift)
        assert late
        await service.runtime.client.drop_database(settings.database)


async def plant_a_difference(service: Running) -> None:
    """A difference in what is live is found by its key."""
    _, coverage = (await generations(service))["coverage"]
    months = service.runtime.database[f"coverage.{coverage}.months"]
    row = await months.find_one({"unit": BOOTHS[1], "sum.members.3": {"$gt": 0}})
    assert row is not None
    day = next(day for day, values in row["days"].items() if "members" in values)
    await months.update_one({"_id": row["_id"]}, {"$inc": {f"days.{day}.members.3": 7}})
    drift = await ended(service, await begin(service, "/v1/projections/drift", names=["coverage"]))
    [difference] = drift["result"]["differences"]
    assert difference["key"] == f"{BOOTHS[1]}#{row['month']}"
    assert difference["live"] - difference["replayed"] == 7
    assert (await ok(service, "/v1/projections/drift"))["id"] == drift["id"]


@pytest.mark.timeout(240)
async def test_the_first_releases_data_is_upgraded_in_place(
    settings: AnalyticsSettings, keys: Keys, analytics: Analytics
) -> None:
    """All that version 0.1.0 has counted stays and goes on; new figures are built from the log."""
    settings = settings.model_copy(update={"mongo_database": analytics.runtime.settings.database})
    rows = analytics.runtime.database[COLLECTION]
    await rows.replace_one(
        {"_id": POINTER}, {"_id": POINTER, **first_pointer(dict.fromkeys(FIRST, 1))}, upsert=True
    )
    for what in ("facts", "months", "standing", "unsettled"):
        await analytics.runtime.database.drop_collection(f"coverage.0.{what}")
    await make_topics(settings)
    source = Running(analytics.service, None, keys, None)  # type: ignore[arg-type]
    town = Town(source, 2)
    past = [*town.founded(), *town.grown(200)]
    released = [event for event in past if "observed" not in event.type and "admins" not in event.type]
    await analytics.feed(released)
    overview = await analytics.ok("/v1/overview", unit="BR")
    assert (await analytics.get("/v1/inclusion", unit="BR")).status_code == 503
    old = (await analytics.ok("/v1/coverage", level="booth"))["items"]
    assert {row["unit"]: row["members"] for row in old} == town.members()

    async with serving(settings, keys) as service:
        await service.publish(*past)

        async def built() -> bool:
            state = await ok(service, "/v1/projections")
            return all(each["version"] == each["wanted"] for each in state["items"])

        await service.until(built)
        await consumed(service, past)
        await settled(service)
        now = await ok(service, "/v1/overview", unit="BR")
        assert now | {"as_of": None} == overview | {"as_of": None}
        assert (await generations(service))["members"] == (1, 0), "what has not changed is not built anew"
        items = (await ok(service, "/v1/coverage", level="booth"))["items"]
        assert {row["unit"]: row["members"] for row in items} == town.members()
        women = sum(gender is Gender.FEMALE for _, gender in town.homes.values())
        funnel = (await ok(service, "/v1/inclusion", unit="BR"))["funnel"]
        assert funnel["registered"] == women
        assert 0 < funnel["joined"] <= funnel["assigned"] < women
