"""The record of who was shown whose contact: every route that shows one leaves a record, and it can be
asked by reader, by member, by time and by way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
import pytest

from services.members.dossier.holders import NAMES, Holders
from services.members.reads.store import Position, ReadSearch, ReadStore
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service, a_person

READER: Final = "members:* contacts:read"
CONTACT: Final = {"phone", "email", "handle"}
BASE: Final = datetime(2026, 1, 1, tzinfo=UTC)


async def reads(service: Service, unit: str = "*", **query: str) -> list[dict[str, Any]]:
    """All items, by pages."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        answer = await service.http.get(
            "/v1/reads", params=query | more, headers=service.app.auth("reads:read", unit)
        )
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next"]
    return items


# --- every route that may show a contact ---

Ask = Callable[[Service, str], Awaitable[httpx2.Response]]


def get(path: str) -> Ask:
    async def ask(service: Service, member_id: str) -> httpx2.Response:
        headers = service.app.auth(READER, sub="eve")
        return await service.http.get(path.replace("{id}", member_id), headers=headers)

    return ask


def send(method: str, path: str, body: object, etag: str | None = None) -> Ask:
    async def ask(service: Service, member_id: str) -> httpx2.Response:
        headers = service.app.auth(READER, sub="eve") | ({"if-match": etag} if etag else {})
        sent = {"ids": [member_id]} if path.endswith("resolve") else body
        return await service.http.request(method, path.replace("{id}", member_id), json=sent, headers=headers)

    return ask


async def get_errors(service: Service, _: str) -> httpx2.Response:
    headers = service.app.auth(READER, sub="eve")
    as_csv = headers | {"content-type": "text/csv"}
    sent = await service.http.post(f"/v1/imports?unit={UNIT}", content=b"name,phone\nA,1\n", headers=as_csv)
    path = f"/v1/imports/{sent.json()['id']}"

    async def planned() -> bool:
        return bool((await service.http.get(path, headers=headers)).json()["state"] == "planned")

    await service.app.until(planned)
    return await service.http.get(f"{path}/errors", headers=headers)


async def test_who_saw_the_rows_of_a_plan_is_on_record(service: Service) -> None:
    """A row tells who has the phone in that line of the file."""
    members = [await service.register(name=f"Target {n}") for n in range(3)]
    body = "name,phone\n" + "".join(f"Z,{each['phone']}\n" for each in members)
    as_csv = {"content-type": "text/csv"}
    sent = await service.http.post(f"/v1/imports?unit={UNIT}", content=body.encode(), headers=as_csv)
    path = f"/v1/imports/{sent.json()['id']}"

    async def planned() -> bool:
        return bool((await service.http.get(path)).json()["state"] == "planned")

    await service.app.until(planned)
    bare = service.app.auth("members:read", sub="eve")
    assert (await service.http.get(f"{path}/rows", headers=bare)).status_code == 403
    headers = service.app.auth("members:read contacts:read", sub="eve")
    shown = (await service.http.get(f"{path}/rows?limit=2", headers=headers)).json()
    assert [row["changes"][0]["before"] for row in shown["items"]] == ["Target 0", "Target 1"]
    seen = await reads(service, subject="eve")
    assert {each["member_id"] for each in seen} == {members[0]["id"], members[1]["id"]}
    assert {(each["via"], each["about"]) for each in seen} == {("import_rows", f"import:{sent.json()['id']}")}
    assert [each["subject"] for each in await reads(service, member=members[0]["id"])] == ["eve"]
    assert await reads(service, member=members[2]["id"]) == [], "not on the page"


async def get_dossier(service: Service, member_id: str) -> httpx2.Response:
    """With nothing from the other services, which `tests/journeys/test_dossier.py` runs."""

    async def held(_: Holders, __: str) -> dict[str, dict[str, Any]]:
        return {name: {} for name in NAMES}

    headers = service.app.auth("dossiers:read contacts:read", sub="eve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Holders, "held", held)
        return await service.http.get(f"/v1/members/{member_id}/dossier", headers=headers)


SHOWING: Final[Mapping[str, tuple[Ask, str]]] = {
    "GET /v1/members": (get("/v1/members"), "list"),
    "GET /v1/members/{id}": (get("/v1/members/{id}"), "get"),
    "GET /v1/members/export": (get("/v1/members/export"), "export"),
    "POST /v1/members/resolve": (send("POST", "/v1/members/resolve", {}), "resolve"),
    "PATCH /v1/members/{id}": (send("PATCH", "/v1/members/{id}", {"name": "Usha"}, '"1"'), "change"),
    "POST /v1/members/{id}/move": (send("POST", "/v1/members/{id}/move", {"unit": "BR-GAYA"}), "change"),
    "GET /v1/imports/{id}/errors": (get_errors, "import_errors"),
    "GET /v1/members/{id}/dossier": (get_dossier, "dossier"),
}
"""The routes whose answer may have a contact: how to ask, and the way that is recorded."""
OWN: Final = {"POST /v1/members"}
"""Shows its caller the contact that they have just sent themselves."""
ELSEWHERE: Final = {"GET /v1/erasures/{id}/removals"}
"""Recorded as well: `test_erasure.py`, which has the groups that such a person was in."""
BARE: Final = {"GET /v1/duplicates", "POST /v1/duplicates/{id}/dismiss"}
"""Show members, but never their contacts, whoever asks: `test_duplicates.py`."""


def names_in(schema: Any, document: Mapping[str, Any], met: set[str]) -> Iterator[str]:
    """The names of all properties of a schema, with those of the schemas that it refers to."""
    if isinstance(schema, list):
        for each in schema:
            yield from names_in(each, document, met)
    elif isinstance(schema, dict):
        if (ref := schema.get("$ref")) and ref not in met:
            met.add(ref)
            yield from names_in(document["components"]["schemas"][ref.rpartition("/")[2]], document, met)
        yield from schema.get("properties", ())
        for key, value in schema.items():
            if key not in ("examples", "description"):
                yield from names_in(value, document, met)


def may_show(document: Mapping[str, Any]) -> set[str]:
    """Routes whose answer has a contact's field, or is a file."""
    found = set()
    for path, ways in document["paths"].items():
        for method, way in ways.items():
            answers = [answer for status, answer in way["responses"].items() if status < "3"]
            content = [each for answer in answers for each in answer.get("content", {}).items()]
            files = [media for media, _ in content if media != "application/json" and path.startswith("/v1")]
            if files or CONTACT & set(names_in([schema for _, schema in content], document, set())):
                found.add(f"{method.upper()} {path}")
    return found


async def test_every_route_that_may_show_a_contact_is_known(service: Service) -> None:
    document = (await service.http.get("/openapi.json")).json()
    assert may_show(document) == set(SHOWING) | OWN | ELSEWHERE | BARE


@pytest.mark.parametrize("line", SHOWING)
async def test_every_route_that_shows_a_contact_leaves_a_record(service: Service, line: str) -> None:
    ask, via = SHOWING[line]
    member = await service.register()
    answer = await ask(service, member["id"])
    assert answer.status_code == 200, answer.text
    [read] = await reads(service, subject="eve")
    assert read["via"] == via
    if via == "import_errors":
        assert read["member_id"] is None
        assert read["about"].startswith("import:")
    else:
        assert read["member_id"] == member["id"]
        assert member["phone"] in answer.text


# --- asking the record ---


async def put_reads(service: Service, *rows: tuple[str, list[str], int]) -> None:
    await service.db["contact_reads"].insert_many(
        [
            {
                "_id": new_id(),
                "subject": subject,
                "ids": ids,
                "via": "list",
                "at": BASE + timedelta(seconds=second),
                "request_id": "r",
            }
            for subject, ids, second in rows
        ]
    )


async def test_the_record_is_asked_by_reader_by_member_and_by_time(service: Service) -> None:
    one, two = [(await service.register())["id"] for _ in range(2)]
    await put_reads(service, ("eve", [one, two], 1), ("bob", [one], 2), ("eve", [two], 3))
    await put_reads(service, *[("tim", [one], 4)] * 5)

    async def seen(**query: str) -> list[tuple[str, str]]:
        return [(each["subject"], each["member_id"]) for each in await reads(service, **query)]

    assert await seen(subject="eve") == [("eve", two), ("eve", one), ("eve", two)]
    assert await seen(subject="eve", limit="1") == await seen(subject="eve")
    assert await seen(subject="tim", limit="2") == [("tim", one)] * 5, "of the same moment"
    assert await seen(member=one) == [("tim", one)] * 5 + [("bob", one), ("eve", one)]
    assert await seen(member=one.upper(), subject="eve") == [("eve", one)]
    second = [(BASE + timedelta(seconds=n)).isoformat().replace("+00:00", "Z") for n in range(5)]
    assert await seen(**{"from": second[2], "to": second[3]}) == [("bob", one)]
    assert await seen(via="export") == []


async def test_a_caller_of_a_unit_sees_the_reads_of_its_present_members_alone(service: Service) -> None:
    inside = (await service.register(unit="BR-SARAN"))["id"]
    outside = (await service.register(unit="BR-GAYA"))["id"]
    await put_reads(service, ("eve", [inside, outside], 1))
    assert [each["member_id"] for each in await reads(service, "BR-SARAN", limit="1")] == [inside]
    asked = await service.http.get(
        f"/v1/reads?member={outside}", headers=service.app.auth("reads:read", "BR-SARAN")
    )
    assert asked.status_code == 404
    assert len(await reads(service, "*", member=outside)) == 1
    await service.http.post(f"/v1/members/{outside}/move", json={"unit": "BR-SARAN-X"})
    assert {each["member_id"] for each in await reads(service, "BR-SARAN", via="list")} == {inside, outside}


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=20260101",
        "via=List",
        "subject=",
        "phone=9812345678",
        "member=1",
        "subject=a&subject=b",
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(empty: Service, query: str) -> None:
    answer = await empty.http.get(f"/v1/reads?{query}", headers=empty.app.auth("reads:read"))
    assert answer.status_code == 422, answer.text


async def test_the_record_needs_its_own_scope(empty: Service) -> None:
    for scopes in ("members:*", "contacts:read"):
        assert (await empty.http.get("/v1/reads", headers=empty.app.auth(scopes))).status_code == 403


async def test_ten_thousand_reads_are_paged_by_an_index(service: Service) -> None:
    """MongoDB's profiler: no scan, no sort, and few documents for each page."""
    member = (await service.register())["id"]
    rare = new_id()
    rows = [(f"s{n % 7}", [member, new_id() if n % 50 else rare], n) for n in range(10_000)]
    await put_reads(service, *rows)
    store = ReadStore(service.db)
    middle = Position(int(BASE.timestamp() * 1000) + 5_000_000, "f", 0)
    searches = [
        ReadSearch(),
        ReadSearch(subject="s1"),
        ReadSearch(member=rare),
        ReadSearch(via="list"),
        ReadSearch(subject="s1", since=BASE, until=BASE + timedelta(seconds=9000)),
    ]
    await service.db.command("profile", 2)
    for search in searches:
        assert len(await store.page(search, middle, 51)) == 51
    await service.db.command("profile", 0)
    profile = service.db["system.profile"].find({"op": "query", "ns": {"$regex": "contact_reads$"}})
    found = [row async for row in profile]
    assert len(found) == len(searches)
    for row in found:
        assert row["planSummary"].startswith("IXSCAN"), row["planSummary"]
        assert not row.get("hasSortStage")
        assert row["docsExamined"] <= 110, (row["planSummary"], row["docsExamined"])
    assert len(await reads(service, member=member, limit="500")) == 10_000


async def test_a_registration_shows_its_caller_what_they_sent(service: Service) -> None:
    assert (await service.post(a_person())).status_code == 201
    assert await reads(service) == []


async def test_without_the_other_services_there_is_no_dossier_and_nothing_was_read(service: Service) -> None:
    member = await service.register()
    headers = service.app.auth("dossiers:read contacts:read")
    answer = await service.http.get(f"/v1/members/{member['id']}/dossier", headers=headers)
    assert answer.status_code == 503
    assert answer.json()["detail"].endswith(": groups, notifications, analytics")
    assert await reads(service) == []
