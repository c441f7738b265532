"""Finding members: by index, across scripts, counted, and while processes of an earlier release write."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio
from bson import Binary
from prometheus_client import CollectorRegistry

from services.members.core.domain import Member, Role
from services.members.core.metrics import MembersMetrics
from services.members.core.search_fields import FIELDS, search_fields
from services.members.core.store import MEMBER, SealedContact, document_of
from services.members.directory.freshness import QUIET, Freshness
from services.members.directory.store import COUNTED, DirectoryStore, Search
from services.shared.clock import ManualClock
from services.shared.database import Document
from services.shared.http.pagination import PageParams
from services.shared.ids import new_id
from services.shared.loops import Turn
from tests.fixtures.profiler import profiled
from tests.fixtures.reference import rows
from tests.integration.members.conftest import Service

PATH = "/v1/members"
NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
UNITS = (
    "BR",
    "BR-GAYA",
    "BR-GAYA-TEKARI",
    "BR-GAYA-TEKARI-5",
    "BR-GAYA-TEKARI-51",
    "BR-SARAN-A-1",
    "BR-GAYA2",
)


def a_member(**fields: Any) -> Member:
    return replace(
        Member(
            id=new_id(),
            name="Asha Devi",
            unit="BR-GAYA-TEKARI-5",
            gender="female",
            language="hi",
            joined_at=NOW,
            updated_at=NOW,
        ),
        **fields,
    )


def stored(member: Member) -> Document:
    return document_of(member, SealedContact(Binary(b"sealed", 0x80), member.id))


def by_an_earlier_release(member: Member) -> Document:
    """The member's document as release 0.1.0 writes it."""
    return {name: value for name, value in stored(member).items() if name == "words" or name not in FIELDS}


async def store_all(service: Service, members: Sequence[Member]) -> None:
    await service.db["members"].insert_many([stored(each) for each in members])


def various(count: int, seed: int = 1) -> Iterator[Member]:
    rng = random.Random(seed)
    for _ in range(count):
        yield a_member(
            unit=rng.choice(UNITS),
            gender=rng.choice(("female", "male", "other", "undisclosed")),
            language=rng.choice(("hi", "mai", "ur")),
            platforms=tuple(rng.sample(("x", "facebook"), rng.randrange(3))),
            roles=tuple(Role(role, "BR") for role in rng.sample(("coordinator", "youth"), rng.randrange(3))),
            status=rng.choice(("active", "active", "left")),
        )


async def names(service: Service, **params: Any) -> list[str]:
    answer = await service.http.get(PATH, params=params, headers=service.app.auth("members:read"))
    assert answer.status_code == 200, answer.text
    return [member["name"] for member in answer.json()["items"]]


async def test_every_combination_of_filters_finds_by_index_what_the_members_say(service: Service) -> None:
    members = list(various(150))
    await store_all(service, members)
    store = DirectoryStore(service.db)
    for unit, role, gender, language, platform, status in itertools.product(
        (None, *UNITS[:4]),
        (None, "youth"),
        (None, "female", "other"),
        (None, "hi", "ur"),
        (None, "x"),
        (None, "active", "left"),
    ):
        search = Search(unit, role, gender, language, platform, status)
        expected = [
            m.id
            for m in members
            if (unit is None or m.unit == unit or m.unit.startswith(f"{unit}-"))
            and (role is None or role in [each.role for each in m.roles])
            and (platform is None or platform in m.platforms)
            and all(
                asked in (None, has)
                for asked, has in ((gender, m.gender), (language, m.language), (status, m.status))
            )
        ]
        found = [record.member.id for record in await store.page(search, None, 200, by_index=True)]
        assert found == sorted(expected), search
        assert await store.count(search, by_index=True) == len(expected)


FILTERS: tuple[dict[str, str], ...] = (
    {},
    {"role": "coordinator"},
    {"gender": "female"},
    {"gender": "other"},
    {"language": "hi"},
    {"language": "ur"},
    {"platform": "x"},
    {"status": "active"},
    {"status": "left"},
    {"q": "zu", "order": "relevance"},
    {"q": "sunita", "order": "relevance"},
)


@pytest_asyncio.fixture(loop_scope="session")
async def crowd(service: Service) -> Service:
    """A service whose 3,000 members are mostly alike, and in each unit some are not."""
    ordinary = [
        a_member(
            unit=f"BR-{'GAYA' if n % 8 else 'SARAN'}-B{n % 5}-{n % 11}", gender=("female", "male")[n % 2]
        )
        for n in range(2800)
    ]
    scarce = [
        replace(
            each,
            id=new_id(),
            name="Zubaida Khatun",
            gender="other",
            language="ur",
            status="left",
            platforms=("x",),
            roles=(Role("coordinator", "BR"),),
        )
        for each in ordinary[:200]
    ]
    await store_all(service, [*ordinary, *scarce])
    return service


async def test_every_page_reads_an_index_in_its_order_and_little_else(crowd: Service) -> None:
    """As MongoDB's profiler explains what was executed: no scan, no sort, few documents for each answered."""
    for params in FILTERS:

        async def every_level(params: dict[str, str] = params) -> None:
            for unit in (None, "BR", "BR-GAYA", "BR-GAYA-B1", "BR-GAYA-B1-1"):
                await names(crowd, **params, limit=20, **({"unit": unit} if unit else {}))

        # Not those by which the loop looks for members of an earlier release.
        finds = {"command.find": "members", "command.filter.$expr": None}
        executed = await profiled(crowd.db, every_level, finds, at_least=5)
        for each in executed:
            assert each["planSummary"].startswith("IXSCAN"), (params, each["planSummary"])
            assert not each.get("hasSortStage"), (params, each["command"])
            most = 3 * max(20, each["nreturned"])
            assert each["docsExamined"] <= most, (params, each["planSummary"], each["command"])
            assert each["keysExamined"] <= 2 * most, (params, each["planSummary"], each["command"])


async def test_a_search_by_two_common_words_reads_those_who_have_both(service: Service) -> None:
    both = [a_member(name=name) for name in ("Shyam Jha", "Jha Shyam Lal", "श्याम झा")]
    one = [a_member(name=f"{word} {n}") for word in ("Shyam Paswan", "Rita Jha") for n in range(300)]
    await store_all(service, [*both, *one])
    store = DirectoryStore(service.db)
    for search in (Search(words=("shyam", "jha")), Search(words=("jha", "shya"))):

        async def both_ways(search: Search = search) -> None:
            found = await store.by_prefix(search, by_index=True)
            found += await store.by_sound(search, by_index=True)
            assert {each.id for each in found} >= {each.id for each in both[:2]}

        finds = {"command.find": "members", "command.limit": 200}
        executed = await profiled(service.db, both_ways, finds, at_least=2)
        assert max(row["docsExamined"] for row in executed) <= 2 * len(both), executed
    assert {each.id for each in await store.by_sound(Search(words=("shyam", "jha")), by_index=True)} == {
        each.id for each in both
    }


async def test_a_short_word_hides_nobody_in_the_other_script(service: Service) -> None:
    both = {"Om Prakash Singh", "ओम प्रकाश सिंह"}
    for name in (*both, "Omkar Prasad", "Prakash Rai"):
        await service.register(name=name)
    for q in ("Om Prakash", "ओम प्रकाश", "om prakash singh", "ओम प्रका"):
        for order in ("joined", "relevance"):
            assert set(await names(service, q=q, order=order)) == both, (q, order)
    assert set(await names(service, q="om")) == {"Om Prakash Singh", "Omkar Prasad"}


async def test_who_sounds_alike_comes_after_the_last_page(service: Service) -> None:
    for name in ("Anita", "Anita Rai", "अनीता", "अनिता"):
        await service.register(name=name)
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while len(pages) < 9:
        answer = await service.http.get(PATH, params={"q": "anita", "limit": "2", **cursor})
        pages.append([each["name"] for each in answer.json()["items"]])
        if answer.json()["next"] is None:
            break
        cursor = {"cursor": answer.json()["next"]}
    assert pages == [["Anita", "Anita Rai"], ["अनीता", "अनिता"]]
    assert len(await names(service, q="anita", limit="3")) == 2, "they come together"
    assert len(await names(service, q="anita", limit="4")) == 4


async def test_three_spellings_find_each_other(service: Service) -> None:
    spellings = ["Rahul Shrivastav", "Rahul Srivastava", "राहुल श्रीवास्तव"]
    for name in (*spellings, "Ravi Kumar", "শ্রীবাস্তব", "محمد گل\u200cناز"):
        await service.register(name=name)
    for q, first in (("Shrivastav", 0), ("srivastava", 1), ("श्रीवास्तव", 2)):
        for order in ("joined", "relevance"):
            found = await names(service, q=q, order=order)
            assert found[0] == spellings[first]
            assert set(found[:3]) <= {*spellings, "শ্রীবাস্তব"}
            assert {*spellings, "শ্রীবাস্তব"} == set(found)
    assert set(await names(service, q="rahul shrivastav")) == set(spellings)
    assert await names(service, q="মোহাম্মদ") == []
    assert await names(service, q="محمد") == ["محمد گل\u200cناز"]
    # Still being typed, and one letter off.
    assert set(await names(service, q="shriva")) >= set(spellings)
    assert await names(service, q="ravi singh") == []


async def test_names_alike_are_added_where_the_page_has_room_and_only_within_the_filters(
    service: Service,
) -> None:
    for name, unit in (("Asha", "BR-A"), ("आशा", "BR-A"), ("Ashaa", "BR-B"), ("आशा देवी", "BR-B")):
        await service.register(name=name, unit=unit)
    first = (await service.http.get(PATH, params={"q": "asha", "limit": 1})).json()
    assert [each["name"] for each in first["items"]] == ["Asha"]
    rest = await names(service, q="asha", limit=3, cursor=first["next"])
    assert rest[0] == "Ashaa"
    assert set(rest[1:]) == {"आशा", "आशा देवी"}
    assert await names(service, q="asha", unit="BR-A") == ["Asha", "आशा"]
    assert await names(service, q="asha", unit="BR-A", gender="female") == []
    elsewhere = service.app.auth("members:read", "BR-B")
    answer = await service.http.get(PATH, params={"q": "आशा", "order": "relevance"}, headers=elsewhere)
    assert [each["name"] for each in answer.json()["items"]] == ["आशा देवी", "Ashaa"]
    assert answer.json()["next"] is None
    assert (await service.http.get(PATH, params={"order": "relevance"})).status_code == 422


async def test_real_names_are_among_the_first_ten(service: Service) -> None:
    """611 members with names of candidates in Bihar in Devanagari, each looked for as it is spelt in
    Latin."""
    pairs = rows("names_given.csv")
    await store_all(service, [a_member(name=row["devanagari"]) for row in pairs])
    limit = asyncio.Semaphore(8)

    async def found(row: dict[str, str]) -> tuple[bool, int, int]:
        async with limit:
            first = await names(service, q=row["latin"], order="relevance", limit=10)
        meant = {each["devanagari"] for each in pairs if each["latin"] == row["latin"]}
        same = [name in meant for name in first]
        return any(same), sum(same), len(same)

    each = await asyncio.gather(*map(found, pairs))
    recall = sum(hit for hit, _, _ in each) / len(pairs)
    precision = sum(right for _, right, _ in each) / sum(shown for _, _, shown in each)
    print(f"recall in the first ten {recall:.3f}, precision {precision:.2f}")
    assert recall >= 0.97
    assert precision >= 0.3


async def test_members_are_counted_exactly_up_to_a_limit(service: Service) -> None:
    await store_all(service, [a_member(gender="male") for _ in range(COUNTED)])

    async def total(**params: str) -> Document:
        headers = service.app.auth("members:read")
        asked = {"count": "true", "limit": "1", **params}
        answer = await service.http.get(PATH, params=asked, headers=headers)
        found: Document = answer.json()["total"]
        return found

    assert await total() == {"count": 10_000, "exact": True}
    await store_all(service, [a_member(), a_member(unit="BR-SARAN")])
    assert await total() == {"count": 10_000, "exact": False}
    assert await total(unit="BR-GAYA", gender="male") == {"count": 10_000, "exact": True}
    assert await total(unit="BR-SARAN") == {"count": 1, "exact": True}
    assert await total(q="ash", gender="female") == {"count": 2, "exact": True}
    headers = service.app.auth("members:read")
    assert "total" not in (await service.http.get(PATH, params={"limit": 1}, headers=headers)).json()


async def test_a_cursor_of_an_earlier_release_goes_on(service: Service) -> None:
    members = [await service.register(language="mai") for _ in range(3)]
    filters = dict.fromkeys(("unit", "role", "gender", "language", "platform", "status", "q")) | {
        "language": "mai"
    }
    page = PageParams(1).window("members", filters, (str,))
    _, cursor = page.cut([member["id"] for member in members], lambda id_: (id_,))
    answer = await service.http.get(PATH, params={"language": "mai", "cursor": cursor})
    assert [each["id"] for each in answer.json()["items"]] == [each["id"] for each in members[1:]]


class Older:
    """A process of release 0.1.0 beside this one: it knows nothing of search fields."""

    def __init__(self, service: Service) -> None:
        self._members = service.db["members"]

    async def register(self, **fields: Any) -> Member:
        member = a_member(**fields)
        await self._members.insert_one(by_an_earlier_release(member))
        return member

    async def change(self, member: Member, **fields: Any) -> Member:
        new = replace(member, version=member.version + 1, **fields)
        document = by_an_earlier_release(new)
        for name in ("_id", "contact", "phone_index"):
            del document[name]
        await self._members.update_one({"_id": new.id, "version": member.version}, {"$set": document})
        return new


async def test_members_written_by_an_earlier_release_are_found_all_along(service: Service) -> None:
    older, clock = Older(service), ManualClock(NOW)
    store = DirectoryStore(service.db)
    freshness = Freshness(store, clock, MembersMetrics(CollectorRegistry()))
    before = [await older.register(name="आशा", language="ur") for _ in range(3)]
    await store_all(service, [a_member(language="ur")])

    async def found(**fields: str) -> set[str]:
        page = await store.page(Search(**fields), None, 100, by_index=freshness.complete)  # type: ignore[arg-type]
        return {record.member.id for record in page}

    # The upgrade: nothing has been derived yet, and nobody is missing.
    assert not freshness.complete
    assert len(await found(language="ur")) == 4
    assert await freshness.turn() is Turn.SOME
    assert not freshness.complete
    assert await freshness.turn() is Turn.NOTHING
    clock.advance(QUIET + timedelta(seconds=1))
    assert freshness.complete
    assert len(await found(language="ur")) == 4
    [row] = [row async for row in service.db["members"].find({"_id": before[0].id})]
    assert {name: row[name] for name in FIELDS} == search_fields(MEMBER.decode(row))

    # Side by side: a member moves, is renamed and joins through the older process.
    moved = await older.change(before[0], unit="BR-SARAN-A-1", name="Zubaida", updated_at=clock.now())
    joined = await older.register(language="ur", unit="BR-SARAN", updated_at=clock.now())
    assert await freshness.turn() is Turn.SOME
    assert not freshness.complete
    assert await found(root="BR-SARAN", language="ur") == {moved.id, joined.id}
    clock.advance(QUIET + timedelta(seconds=1))
    assert await freshness.turn() is Turn.NOTHING
    assert freshness.complete
    assert await found(root="BR-SARAN", language="ur") == {moved.id, joined.id}
    assert len(await found(root="BR-GAYA", language="ur")) == 3
    assert {each.id for each in await store.by_sound(Search(words=("jubaida",)), by_index=True)} == {moved.id}


async def test_a_member_whose_search_fields_are_wrong_is_never_shown_outside_the_subtree(
    service: Service,
) -> None:
    member = await service.register(unit="BR-SARAN", language="ur")
    older = a_member(id=member["id"], unit="BR-GAYA", language="ur")
    wrong = {"$set": {"unit": "BR-GAYA", "units": search_fields(replace(older, unit="BR-SARAN"))["units"]}}
    await service.db["members"].update_one({"_id": member["id"]}, wrong)
    store = DirectoryStore(service.db)
    for search in (Search("BR-SARAN"), Search("BR-SARAN", language="ur")):
        assert await store.page(search, None, 10, by_index=True) == []
        assert await store.by_sound(replace(search, words=("asha", "devi")), by_index=True) == []
