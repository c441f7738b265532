"""The real booths of two districts redrawn, with their members in members, groups and analytics, against bare
writes of the same members: what it costs that every service follows, with one event each.

The tree is `booth_chain_2districts.csv.gz`: 5,768 polling stations with their blocks and constituencies.
Members and their seats are written into the stores as the services would have left them. Then some booths are
moved, some merged, some split, with a file of the whole tree. At the end the books must balance: everybody is
in a live unit, in the same seat as before, and analytics counts the same in every booth.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from bson.binary import Binary
from pymongo import UpdateOne

from infra.local.demo.api import Api
from infra.local.stack import LocalStack
from services.analytics.core.counting import Changes, Projection
from services.analytics.core.facts import Fact, learn
from services.analytics.core.places import Place, Pointers
from services.analytics.core.store import CounterStore
from services.analytics.projections.catalogue import PROJECTIONS
from services.groups.core.domain import Group, Placement, PlacementState
from services.groups.core.store import GROUPS, PLACEMENTS
from services.members.core.domain import Member
from services.members.core.store import SealedContact, document_of
from services.shared.contracts.base import Event
from services.shared.contracts.groups import GroupCreated, GroupMemberAssigned
from services.shared.contracts.members import MemberJoined
from services.shared.contracts.vocabulary import Gender
from services.shared.database import Client, Session, connect, database, transact
from services.shared.ids import new_id
from tests.bench.environment import Environment
from tests.bench.figures import Figure, Ratio
from tests.fixtures.reference import path_of, rows

GOAL = 0.01
FLOOR = 0.002
"""Reached reliably among few members, where waiting for the next look is most of the time."""
BATCH = 2000
CHUNK = 500
SETTLE_SECONDS = 1200.0
START = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = "code,level,name_en,name_hi,women_target,ac_no,ac_name_en,ac_name_hi,predecessor"


@dataclass
class Chain:
    """The rows of a tree by code: level, names, and the constituency."""

    rows: dict[str, str] = field(default_factory=dict)
    booths: list[str] = field(default_factory=list)

    def csv(self, predecessors: Mapping[str, Sequence[str]], gone: Mapping[str, Sequence[str]]) -> bytes:
        """The tree with `predecessors` of new booths, which have the rows of the first of them."""
        lines = [HEADER]
        lines += [f"{code},{row}," for code, row in self.rows.items() if code not in gone]
        lines += [f"{code},{self.rows[old[0]]},{' '.join(old)}" for code, old in predecessors.items()]
        return ("\n".join(lines) + "\n").encode()


def chain() -> Chain:
    tree = Chain({"BR": "state,Bihar,बिहार,,,,"})
    districts = {row["district_lgd"]: row for row in rows("districts.csv")}
    blocks = {row["block_lgd"]: row for row in rows("blocks.csv")}
    seats = {row["ac_no"]: row["name_en"] for row in rows("assembly_constituencies.csv")}
    with gzip.open(path_of("booth_chain_2districts.csv.gz"), "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            district, block, seat = row["district_lgd"], row["block_lgd"], row["ac_no"]
            above = districts[district]
            tree.rows[f"BR-{district}"] = f"district,{above['name_en']},{above['name_hi']},,,,"
            name = blocks[block]["name_en"] if block in blocks else block
            tree.rows[f"BR-{district}-{block}"] = f"block,{name},{row['block_hi']},,,,"
            code = f"BR-{district}-{block}-A{seat}P{row['ps_no']}"
            name = row["ps_name_hi"].replace('"', "'")
            place = f"{seat},{seats[seat]},{row['ac_name_hi']}"
            tree.rows[code] = f'booth,Station {row["ps_no"]} of {seats[seat]},"{name}",,{place}'
            tree.booths.append(code)
    tree.rows = dict(sorted(tree.rows.items(), key=lambda each: each[0].count("-")))
    return tree


async def measure(env: Environment) -> list[Ratio]:
    people, redrawn = (1_000_000, 50_000) if env.full else (30_000, 3_000)
    return await redrawing(env, people, redrawn)


async def redrawing(env: Environment, people: int, redrawn: int) -> list[Ratio]:
    async with stacked(env) as world:
        began = time.perf_counter()
        await world.load()
        await world.seed(people)
        print(f"redrawing: {people:,} members stored in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        plain = await world.plain(redrawn)
        seconds = await world.redraw(redrawn)
        await world.check(people)
        return [
            Ratio(
                f"members redrawn among {people:,}, all services followed",
                Figure(f"redrawing.py, {world.moved:,} members", world.moved / seconds),
                Figure("redrawing.py, bulk_write() of the same members", world.moved / plain),
                GOAL,
                floor=FLOOR,
            )
        ]


@asynccontextmanager
async def stacked(env: Environment) -> AsyncIterator[World]:
    directory = env.directory / f"redrawing-{secrets.token_hex(4)}"
    async with (
        LocalStack(directory, broker=env.broker, restart=False) as stack,
        Api(stack.urls, stack.token, connections=16) as api,
    ):
        client = connect(stack.mongo, app_name="bench")
        try:
            yield World(api, client, chain())
        finally:
            client.close()


class World:
    def __init__(self, api: Api, client: Client, tree: Chain) -> None:
        self._api = api
        self._client = client
        self._tree = tree
        self._members = database(client, "members")["members"]
        self._groups = database(client, "groups")
        self._analytics = database(client, "analytics")
        self._random = random.Random(2026)
        self.predecessors: dict[str, list[str]] = {}
        self.gone: dict[str, list[str]] = {}
        self.moved = 0
        self._seats: dict[str, int] = {}
        self._places: Mapping[str, Place] = {}

    async def load(self) -> None:
        lines = [HEADER.rpartition(",")[0], *(f"{code},{row}" for code, row in self._tree.rows.items())]
        await self._job(await self._csv("/v1/units/imports", ("\n".join(lines) + "\n").encode()))

    async def seed(self, people: int) -> None:
        """Members, their seats and their figures, as after as many joins."""
        booths, changes = self._tree.booths, Changes()
        groups = {code: new_id() for code in booths}
        crowd = (self._random.choice(booths) for _ in range(people))
        taken: Counter[str] = Counter()
        pointers = Pointers(self._analytics)
        store, pointer = CounterStore(self._analytics, pointers), await pointers.read()
        self._places = pointer.live
        n = 0
        while batch := list(islice(crowd, BATCH)):
            members = [_member(unit, n + at) for at, unit in enumerate(batch)]
            n += len(members)
            contact = Binary(b"x" * 120, 0x80)
            documents = [document_of(each, SealedContact(contact, each.id)) for each in members]
            placed = [_placement(each, groups[each.unit]) for each in members]
            seats = [PLACEMENTS.encode(each) for each in placed]
            await asyncio.gather(
                self._members.insert_many(documents, ordered=False),
                self._groups["placements"].insert_many(seats, ordered=False),
                self._count("members", [_joined(each) for each in members], changes),
                self._count("placements", [_assigned(each) for each in placed], changes),
            )
            taken.update(batch)
        made = [_group(code, id_, taken[code]) for code, id_ in groups.items() if taken[code]]
        await self._groups["groups"].insert_many(
            [GROUPS.encode(each) | {"state": each.state.value} for each in made], ordered=False
        )
        for some in range(0, len(made), BATCH):
            await self._count("groups", [_created(each) for each in made[some : some + BATCH]], changes)
        totals = list(changes.totals.items())
        for some in range(0, len(totals), BATCH):
            part = Changes(totals=Counter(dict(totals[some : some + BATCH])), newest=START)
            await transact(self._client, partial(store.save, self._places["members"], [], [], part))
        self._taken = taken

    async def _count(self, name: str, events: Sequence[Event], changes: Changes) -> None:
        projection: Projection = next(each for each in PROJECTIONS if each.name == name)
        facts = []
        for event in events:
            mapping = projection.mappings[type(event)]
            fact = learn(Fact(event.subject), 1, mapping.states(event))
            assert fact is not None
            facts.append({"_id": fact.subject, **fact.values, "upto": 1, "beyond": [], "at": dict(fact.at)})
            changes.note(projection, None, fact)
        await self._analytics[self._places[name].named("facts")].insert_many(facts, ordered=False)

    async def plain(self, count: int) -> float:
        """Seconds to change so many members in bare transactions of the same size."""
        ids = [row["_id"] async for row in self._members.find({}, {"_id": 1}).limit(count)]
        began = time.perf_counter()
        for start in range(0, len(ids), CHUNK):
            await transact(self._client, partial(self._touch, ids[start : start + CHUNK]))
        return time.perf_counter() - began

    async def _touch(self, ids: Sequence[str], session: Session) -> None:
        writes = [UpdateOne({"_id": id_}, {"$set": {"bench": 1}}) for id_ in ids]
        await self._members.bulk_write(writes, ordered=False, session=session)

    def _draw(self, count: int) -> None:
        """Moves, merges of two and splits in two, of neighbours, until so many members are concerned."""
        booths = iter(self._tree.booths)
        last: dict[str, str] = {}
        for n, code in enumerate(booths):
            if self.moved >= count:
                return
            self.moved += self._taken[code]
            above = code.rpartition("-")[0]
            new = f"{above}-N{n}"
            if n % 4 == 3:
                self.gone[code] = [f"{new}A", f"{new}B"]
            elif n % 4 == 2 and above in last:
                self.gone[code] = [last.pop(above)]
            else:
                self.gone[code], last[above] = [new], new
            for successor in self.gone[code]:
                self.predecessors.setdefault(successor, []).append(code)

    async def redraw(self, count: int) -> float:
        """Seconds from sending the file until every service has followed."""
        self._draw(count)
        self._seats = await self._by("placements", "$group_id")
        began = time.perf_counter()
        compared = await self._job(
            await self._csv("/v1/units/comparisons", self._tree.csv(self.predecessors, self.gone))
        )
        shown = time.perf_counter()
        answer = await self._api.send("POST", "groups", f"/v1/units/comparisons/{compared['id']}/apply")
        applied = await self._job(answer.json())
        tree = time.perf_counter()
        await self._follow()
        followed = time.perf_counter()
        await self._settled()
        print(
            f"redrawing: {compared['counts']}; compared in {shown - began:.1f} s, tree and seats"
            f" {applied['counts']} in {tree - shown:.1f} s, members {followed - tree:.1f} s later,"
            f" everything {time.perf_counter() - followed:.1f} s after that",
            file=sys.stderr,
        )
        return time.perf_counter() - began

    async def _follow(self) -> None:
        """Wait for the job of members, and map the members of split booths, every other one to a part."""
        whole = [code for code, new in self.gone.items() if len(new) == 1]
        await self._until(self._nobody_in, whole)
        split = [code for code, parts in self.gone.items() if len(parts) > 1]
        rows = self._members.find({"unit": {"$in": split}}, {"unit": 1})
        wanted = [
            {"member_id": row["_id"], "unit": self.gone[row["unit"]][n % 2]}
            for n, row in enumerate(await rows.to_list(None))
        ]
        for start in range(0, len(wanted), CHUNK):
            items = wanted[start : start + CHUNK]
            answer = await self._api.send("POST", "members", "/v1/redrawings/members", json={"items": items})
            assert answer.json()["moved"] == len(items), answer.text

    async def _nobody_in(self, codes: Sequence[str]) -> bool:
        return await self._members.count_documents({"unit": {"$in": list(codes)}}) == 0

    async def _settled(self) -> None:
        async def followed(codes: Sequence[str]) -> bool:
            if await self._groups["placements"].count_documents({"unit": {"$in": list(codes)}}):
                return False
            figures = await self._figures({"unit": {"$in": list(codes)}})
            return not any(figures.values())

        await self._until(followed, list(self.gone))

    async def check(self, people: int) -> None:
        """The books of the three services, booth by booth."""
        members = await _by(self._members, "$unit")
        assert sum(members.values()) == people
        live = {code for code in self._tree.booths if code not in self.gone} | set(self.predecessors)
        assert members.keys() <= live, "everybody is in one live unit"
        assert await self._by("placements", "$unit") == members
        assert await self._by("placements", "$group_id") == self._seats, "nobody has changed the seat"
        heard = {row["_id"]: row["unit"] async for row in self._groups["groups"].find({}, {"unit": 1})}
        assert set(heard.values()) <= live
        seats: Counter[str] = Counter()
        for id_, taken in self._seats.items():
            seats[heard[id_]] += taken
        figures = await self._figures({"depth": 3})
        assert figures["members.total"] == members
        assert figures["groups.taken"] == dict(seats)
        notified = database(self._client, "notifications")["notifications"]
        assert await notified.estimated_document_count() == 0, "nobody is welcomed"

    async def _figures(self, query: dict[str, Any]) -> dict[str, dict[str, int]]:
        """Counters of booths, without those at zero."""
        found: dict[str, Counter[str]] = {"members.total": Counter(), "groups.taken": Counter()}
        for name in {place.named("counters") for place in self._places.values()}:
            async for row in self._analytics[name].find(query):
                for key, counts in found.items():
                    kind, word = key.split(".")
                    counts[row["unit"]] += row["values"].get(kind, {}).get(word, 0)
        return {key: {unit: n for unit, n in counts.items() if n} for key, counts in found.items()}

    async def _by(self, collection: str, field: str) -> dict[str, int]:
        return await _by(self._groups[collection], field)

    async def _csv(self, path: str, content: bytes) -> Any:
        headers = {"Content-Type": "text/csv"}
        answer = await self._api.send("POST", "groups", path, content=content, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def _job(self, job: Any) -> Any:
        async def ended(_: Sequence[str]) -> bool:
            nonlocal job
            job = await self._api.get("groups", f"/v1/jobs/{job['id']}")
            return job["state"] in ("succeeded", "failed")

        await self._until(ended, ())
        assert job["state"] == "succeeded", job
        return job

    async def _until(self, done: Any, about: Sequence[str]) -> None:
        deadline = time.perf_counter() + SETTLE_SECONDS
        while not await done(about):
            if time.perf_counter() > deadline:
                raise TimeoutError("the services have not followed")
            await asyncio.sleep(0.2)


async def _by(collection: Any, field: str) -> dict[str, int]:
    pipeline = [{"$group": {"_id": field, "n": {"$sum": 1}}}]
    return {row["_id"]: row["n"] async for row in collection.aggregate(pipeline, allowDiskUse=True)}


def _member(unit: str, n: int) -> Member:
    at = START + timedelta(seconds=n)
    return Member(
        id=new_id(),
        name=f"Asha {n % 1000}",
        unit=unit,
        gender="female" if n % 3 else "male",
        language="hi",
        joined_at=at,
        updated_at=at,
    )


def _placement(member: Member, group_id: str) -> Placement:
    return Placement(
        member_id=member.id,
        member_sequence=1,
        sequence=1,
        unit=member.unit,
        group_id=group_id,
        kind="general",
        ordinal=1,
        state=PlacementState.ASSIGNED,
        since=member.joined_at,
    )


def _group(unit: str, id_: str, taken: int) -> Group:
    name = {"en": f"{unit} group", "hi": f"{unit} समूह"}
    return Group(id_, unit, "general", 1, 1024, START, START, name=name, taken=taken)


def _joined(member: Member) -> MemberJoined:
    return MemberJoined(
        member_id=member.id,
        unit=member.unit,
        gender=Gender(member.gender),
        language=member.language,
        joined_at=member.joined_at,
    )


def _assigned(placement: Placement) -> GroupMemberAssigned:
    assert placement.group_id is not None
    return GroupMemberAssigned(
        member_id=placement.member_id,
        group_id=placement.group_id,
        unit=placement.unit,
        kind="general",
        ordinal=1,
        invite_ready=False,
        member_sequence=1,
    )


def _created(group: Group) -> GroupCreated:
    return GroupCreated(
        group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal, capacity=group.capacity
    )
