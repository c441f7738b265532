"""GET, list and resolve: what is found, in which order, and who sees contacts."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from bson import Binary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.members.core.domain import Role
from services.members.core.store import MEMBER, document_of
from services.shared.database import Document
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service

PATH = "/v1/members"
REQUEST_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def names(service: Service, headers: dict[str, str] | None = None, **params: Any) -> list[str]:
    answer = await service.http.get(PATH, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return [member["name"] for member in answer.json()["items"]]


@pytest_asyncio.fixture(loop_scope="session")
async def people(service: Service) -> dict[str, Document]:
    """Four members in three districts, registered in this order."""
    x = [{"platform": "x", "handle": "a"}]
    rows = [
        await service.register(name="Asha Devi", unit="BR-SARAN-MARHAURA-101", gender="female", platforms=x),
        await service.register(name="आशा कुमारी", unit="BR-SARAN", gender="female", language="mai"),
        await service.register(name="Ravi D'Souza", unit="BR-SARANGPUR-A", gender="male"),
        await service.register(name="Md. Aslam", unit="BR-GAYA-TEKARI-5", gender="male", platforms=x),
    ]
    return {row["name"]: row for row in rows}


async def test_filters(service: Service, people: dict[str, Document]) -> None:
    asha, ashaa, ravi, aslam = people
    await service.http.delete(f"{PATH}/{people[ravi]['id']}")
    member = MEMBER.decode(await service.stored(people[asha]["id"]))
    leading = replace(member, roles=(Role("booth_lead", UNIT),))
    await service.db["members"].update_one({"_id": member.id}, {"$set": document_of(leading)})
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, [asha, ashaa, ravi, aslam]),
        ({"unit": "BR-SARAN"}, [asha, ashaa]),
        ({"unit": "BR-SARAN-MARHAURA"}, [asha]),
        ({"unit": "BR"}, [asha, ashaa, ravi, aslam]),
        ({"gender": "male"}, [ravi, aslam]),
        ({"language": "mai"}, [ashaa]),
        ({"platform": "x"}, [asha, aslam]),
        ({"status": "left"}, [ravi]),
        ({"role": "booth_lead"}, [asha]),
        ({"gender": "female", "unit": "BR-GAYA"}, []),
    ]
    for params, expected in cases:
        assert await names(service, **params) == expected, params


async def test_an_urdu_name_keeps_its_joiner_and_is_found_by_each_part(service: Service) -> None:
    name = "گل\u200cناز خاتون"
    assert (await service.register(name=name))["name"] == name
    for q in ("گل", "ناز", "گلنا", "گل\u200cناز", "خاتون", "گلناز خاتون"):
        assert await names(service, q=q) == [name], q
    assert await names(service, q="از") == []


async def test_search_by_the_start_of_any_word(service: Service, people: dict[str, Document]) -> None:
    asha, ashaa, ravi, aslam = people
    for q, expected in (
        ("as", [asha, aslam]),
        ("AS", [asha, aslam]),
        ("dev", [asha]),
        ("आश", [ashaa, asha]),
        ("कु आ", [ashaa]),
        ("souza", [ravi]),
        ("D'S", [ravi]),
        ("d r", [ravi]),
        ("sha", []),
        ("asha ravi", []),
        (".*", None),
    ):
        answer = await service.http.get(PATH, params={"q": q})
        if expected is None:
            assert answer.status_code == 422
        else:
            assert [member["name"] for member in answer.json()["items"]] == expected, q


async def test_only_the_callers_subtree(service: Service, people: dict[str, Document]) -> None:
    asha, ashaa, ravi, aslam = people
    for root, params, expected in (
        ("BR-SARAN", {}, [asha, ashaa]),
        ("BR-SARAN", {"unit": "BR-SARAN-MARHAURA"}, [asha]),
        ("BR-GAYA", {"q": "as"}, [aslam]),
    ):
        headers = service.app.auth("members:read", root)
        assert await names(service, headers, **params) == expected
    for may, unit in (("BR-SARAN", "BR"), ("BR-SARAN", "BR-GAYA"), (None, UNIT), (None, None)):
        headers = service.app.auth("members:read", may)
        asked = {"unit": unit} if unit else {}
        assert (await service.http.get(PATH, headers=headers, params=asked)).status_code == 404
    headers = service.app.auth("members:read", "BR-SARAN")
    statuses = {
        name: (await service.http.get(f"{PATH}/{row['id']}", headers=headers)).status_code
        for name, row in people.items()
    }
    assert statuses == {asha: 200, ashaa: 200, ravi: 404, aslam: 404}
    unknown = await service.http.get(f"{PATH}/{new_id()}", headers=headers)
    hidden = await service.http.get(f"{PATH}/{people[aslam]['id']}", headers=headers)
    differing = {"instance", "request_id"}
    assert {k: v for k, v in unknown.json().items() if k not in differing} == {
        k: v for k, v in hidden.json().items() if k not in differing
    }


@pytest.mark.parametrize("bad", ["é", "x" * 300, "%00", "-", " "])
async def test_ids_that_are_none(empty: Service, bad: str) -> None:
    assert (await empty.http.get(f"{PATH}/{bad}")).status_code in (404, 422)


async def test_contacts_are_shown_by_scope_and_each_reading_is_recorded(service: Service) -> None:
    handles = [{"platform": "x", "handle": "@asha"}]
    member = await service.register(email="a@example.org", platforms=handles)
    path = f"{PATH}/{member['id']}"
    plain = service.app.auth("members:read")
    for answer in (await service.http.get(path, headers=plain), await service.http.get(PATH, headers=plain)):
        assert not any(secret in answer.text for secret in (member["phone"], "example", "@asha"))
    shown = (await service.http.get(path, headers=plain)).json()
    assert "phone" not in shown
    assert shown["platforms"] == [{"platform": "x"}]
    assert await service.db["contact_reads"].count_documents({}) == 0

    both = service.app.auth("members:read contacts:read", sub="reader") | {"x-request-id": REQUEST_ID}
    assert (await service.http.get(path, headers=both)).json() == member
    assert (await service.http.get(PATH, headers=both)).json()["items"] == [member]
    reads = [row async for row in service.db["contact_reads"].find({})]
    assert [(row["subject"], row["ids"], row["via"], row["request_id"]) for row in reads] == [
        ("reader", [member["id"]], "get", REQUEST_ID),
        ("reader", [member["id"]], "list", REQUEST_ID),
    ]


async def test_resolve(service: Service) -> None:
    there = await service.register(unit="BR-GAYA")
    gone = await service.register(name="B")
    agreed = [
        {"purpose": "welcome", "channel": "whatsapp", "notice": "2025-1", "language": "hi"},
        {"purpose": "broadcast", "channel": "sms", "notice": "2025-1", "language": "hi"},
    ]
    here = await service.register(name="A", email="a@example.org", language="mai", consents=agreed)
    await service.http.delete(f"{PATH}/{gone['id']}")
    nobody = new_id()
    headers = service.app.auth("contacts:read", "BR-SARAN", sub="notifications")
    ids = [here["id"], nobody, gone["id"], there["id"], here["id"]]
    answer = await service.http.post(f"{PATH}/resolve", json={"ids": ids}, headers=headers)
    assert answer.status_code == 200
    shown = ("id", "name", "phone", "email", "language", "unit")
    given = [{"purpose": each["purpose"], "channel": each["channel"]} for each in agreed]
    usual = {"own_number": True, "preferred_channel": None, "minor": False}
    assert answer.json() == {
        "items": [
            {name: here[name] for name in shown} | {"status": "active", "consents": given, **usual},
            {name: gone[name] for name in shown} | {"status": "left", "consents": [], **usual},
        ],
        "missing": [nobody, there["id"]],
    }
    [read] = [row async for row in service.db["contact_reads"].find({})]
    assert (read["subject"], read["ids"], read["via"]) == (
        "notifications",
        [here["id"], gone["id"]],
        "resolve",
    )


async def test_resolve_tells_only_of_consents_that_are_given(service: Service) -> None:
    consents = [
        {"purpose": "welcome", "channel": channel, "notice": "2025-1", "language": "hi"}
        for channel in ("whatsapp", "sms")
    ]
    member = await service.register(consents=consents)
    withdrawn = {"$set": {"consents.0.state": "withdrawn"}}
    await service.db["members"].update_one({"_id": member["id"]}, withdrawn)
    answer = await service.http.post(f"{PATH}/resolve", json={"ids": [member["id"]]})
    [item] = answer.json()["items"]
    assert item["consents"] == [{"purpose": "welcome", "channel": "sms"}]


@pytest.mark.parametrize("contact", ["another's", "cut", "empty"])
async def test_resolve_goes_on_without_a_contact_that_cannot_be_opened(
    service: Service, contact: str
) -> None:
    members = [await service.register() for _ in range(5)]
    ids = [member["id"] for member in members]
    rows = {row["_id"]: row["contact"] async for row in service.db["members"].find({"_id": {"$in": ids}})}
    broken = {"another's": rows[ids[0]], "cut": rows[ids[1]][:-1], "empty": b""}[contact]
    sealed = Binary(broken, rows[ids[0]].subtype)
    await service.db["members"].update_one({"_id": ids[1]}, {"$set": {"contact": sealed}})
    answer = await service.http.post(f"{PATH}/resolve", json={"ids": ids})
    assert answer.status_code == 200
    assert [item["id"] for item in answer.json()["items"]] == [ids[0], *ids[2:]]
    assert answer.json()["missing"] == [ids[1]]


async def test_resolve_of_nobody_is_no_reading(empty: Service) -> None:
    ids = [new_id() for _ in range(500)]
    answer = await empty.http.post(f"{PATH}/resolve", json={"ids": ids})
    assert answer.json() == {"items": [], "missing": ids}
    assert await empty.db["contact_reads"].count_documents({}) == 0


@pytest.mark.parametrize("ids", [[], ["x"], [new_id()] * 501, "all", None])
async def test_resolve_of_what_is_no_list_of_ids(empty: Service, ids: object) -> None:
    assert (await empty.http.post(f"{PATH}/resolve", json={"ids": ids})).status_code == 422


async def test_who_may_read(empty: Service) -> None:
    for scopes, get, resolve in (
        ("members:write", 403, 403),
        ("members:read", 200, 403),
        ("contacts:read", 403, 200),
    ):
        headers = empty.app.auth(scopes)
        assert (await empty.http.get(PATH, headers=headers)).status_code == get
        body = {"ids": [new_id()]}
        answer = await empty.http.post(f"{PATH}/resolve", json=body, headers=headers)
        assert answer.status_code == resolve


async def test_cursors_of_others_are_refused(service: Service) -> None:
    await asyncio.gather(*(service.register() for _ in range(3)))
    first = (await service.http.get(PATH, params={"limit": 2, "gender": "undisclosed"})).json()
    cursor = first["next"]
    for params, status in (
        ({"gender": "undisclosed", "cursor": cursor}, 200),
        ({"cursor": cursor}, 400),
        ({"gender": "male", "cursor": cursor}, 400),
        ({"cursor": "e30"}, 400),
        ({"cursor": "é"}, 400),
        ({"limit": 0}, 422),
        ({"limit": 501}, 422),
        ({"unit": "br"}, 422),
        ({"gender": "f"}, 422),
    ):
        assert (await service.http.get(PATH, params=params)).status_code == status, params


Writes = st.lists(st.sampled_from(["register", "move", "leave", "rename"]), max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 7),
    filters=st.sampled_from([{}, {"unit": "BR-SARAN"}, {"unit": "BR", "language": "mai"}, {"platform": "x"}]),
    writes=st.lists(Writes, max_size=6),
    choose=st.randoms(use_true_random=False),
)
async def test_pages_are_stable_under_writes(
    service: Service,
    limit: int,
    filters: dict[str, str],
    writes: list[list[str]],
    choose: random.Random,
) -> None:
    """Members there when the walk begins are listed exactly once and in order, whatever happens meanwhile."""
    x = [{"platform": "x", "handle": "a"}]
    new = [await service.register(language="mai", platforms=x) for _ in range(5)]
    before = [member["id"] for member in new]
    walked: list[str] = []
    cursor, steps = None, iter(writes)
    while True:
        params: dict[str, Any] = {"limit": limit, **filters} | ({"cursor": cursor} if cursor else {})
        page = (await service.http.get(PATH, params=params)).json()
        assert 0 < len(page["items"]) <= limit
        walked += [member["id"] for member in page["items"]]
        if (cursor := page["next"]) is None:
            break
        for write in next(steps, []):
            await _write(service, write, choose.choice(before), choose)
    assert walked == sorted(set(walked))
    assert set(before) <= set(walked)


async def _write(service: Service, write: str, member_id: str, choose: random.Random) -> None:
    path = f"{PATH}/{member_id}"
    if write == "register":
        await service.register()
    elif write == "move":
        await service.http.post(f"{path}/move", json={"unit": f"BR-SARAN-{choose.choice('ABC')}"})
    elif write == "leave":
        await service.http.delete(path)
    else:
        version = (await service.stored(member_id))["version"]
        await service.http.patch(path, json={"name": "Other Name"}, headers={"if-match": f'"{version}"'})
