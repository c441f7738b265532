"""Members without a number of their own: reached through another member, and never without being counted."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from services.members.recovery.snapshots import SOURCES, member
from services.shared.contracts.members import MemberJoined, MemberSnapshot
from services.shared.database import Document
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service, a_person
from tests.integration.members.importing import a_phone, applied, outcomes, planned, refused
from tests.integration.members.test_export import exported, rows_of
from tests.integration.members.test_merges import get, merge, undo

ELSEWHERE = "BR-GAYA"


async def register(service: Service, reached_by: str, **changes: Any) -> Document:
    answer = await service.post(without_phone(reached_by=reached_by, **changes))
    assert answer.status_code == 201, answer.text
    member: Document = answer.json()
    return member


def without_phone(**changes: Any) -> Document:
    person = a_person(**({"name": "Rani Devi"} | changes))
    del person["phone"]
    return person


async def patch(service: Service, member_id: str, **changes: Any) -> httpx2.Response:
    version = (await service.stored(member_id))["version"]
    headers = {"if-match": f'"{version}"'}
    return await service.http.patch(f"/v1/members/{member_id}", json=changes, headers=headers)


def reason(answer: httpx2.Response) -> tuple[int, str, list[str]]:
    body = answer.json()
    pointers = [error["pointer"] for error in body.get("errors", [])]
    return answer.status_code, body["type"].rpartition(":")[2], pointers


async def test_somebody_without_a_number_is_a_member_like_others(service: Service) -> None:
    sponsor = await service.register()
    consents = [{"purpose": "welcome", "channel": "email", "notice": "1", "language": "hi"}]
    first = await register(service, sponsor["id"], email="rani@example.org", consents=consents)
    second = await register(service, sponsor["id"].upper(), name="Sita Devi")
    assert (first["phone"], first["reached_by"], first["own_number"]) == (None, sponsor["id"], False)
    assert (await get(service, sponsor["id"]))["own_number"] is True
    found = (await service.http.get("/v1/members?q=Devi&status=active&order=relevance&count=true")).json()
    shown = {each["id"]: (each["reached_by"], each["phone"], each["email"]) for each in found["items"]}
    assert shown[first["id"]] == (sponsor["id"], None, "rani@example.org")
    assert shown[second["id"]] == (sponsor["id"], None, None)
    joined = {event.subject: event.data for event in await service.events(3)}
    assert {id_: data.own_number for id_, data in joined.items() if isinstance(data, MemberJoined)} == {
        sponsor["id"]: True,
        first["id"]: False,
        second["id"]: False,
    }
    for row in (await service.stored(first["id"]), await service.stored(second["id"])):
        assert row["phone_index"] == f"-{row['_id']}"

    answer = await service.http.post("/v1/members/resolve", json={"ids": [first["id"]]})
    [resolved] = answer.json()["items"]
    assert (resolved["phone"], resolved["email"], resolved["consents"]) == ("", None, [])
    assert resolved["own_number"] is False
    assert [c["purpose"] for c in (await get(service, first["id"]))["consents"]] == ["welcome"]


async def test_nobody_is_reached_through_who_is_not_there(service: Service) -> None:
    """The same answer for a member elsewhere as for nobody's id."""
    sponsor, gone = await service.register(), await service.register()
    dependent = await register(service, sponsor["id"])
    away = await service.register(unit=ELSEWHERE)
    await service.http.delete(f"/v1/members/{gone['id']}")
    clerk = service.app.auth("members:write members:read", UNIT)
    answers = []
    for reached_by in (away["id"], new_id(), gone["id"], dependent["id"]):
        body = without_phone(reached_by=reached_by)
        answers.append(await service.http.post("/v1/members", json=body, headers=clerk))
        changed = await service.http.patch(
            f"/v1/members/{dependent['id']}",
            json={"reached_by": reached_by},
            headers=clerk | {"if-match": '"1"'},
        )
        answers.append(changed)
    assert {reason(each)[0] for each in answers} == {422}
    assert len({json.dumps(each.json()["errors"]) for each in answers}) == 1
    assert reason(answers[0])[2] == ["/reached_by"]
    assert (await service.stored(dependent["id"]))["version"] == 1
    assert await service.db["members"].count_documents({}) == 4
    metrics = (await service.http.get("/metrics")).text
    assert 'sangathan_members_registrations_total{outcome="unreachable"} 4.0' in metrics


@pytest.mark.parametrize(
    "changes",
    [
        {"phone": "+919812345678", "reached_by": new_id()},
        {"phone": None, "reached_by": None},
        {"phone": None},
        {"phone": ""},
        {"phone": None, "reached_by": "me"},
        {"phone": None, "reached_by": [new_id()]},
    ],
)
async def test_a_person_is_reached_one_way(empty: Service, changes: dict[str, Any]) -> None:
    answer = await empty.post(a_person(**changes))
    assert answer.status_code == 422
    assert await empty.nothing_written()


async def test_a_number_is_given_once_and_for_good(service: Service) -> None:
    sponsor, other = await service.register(), await service.register()
    dependent = await register(service, sponsor["id"])
    both = await patch(service, dependent["id"], phone="+919812345678", reached_by=other["id"])
    assert both.status_code == 422
    taken = await patch(service, dependent["id"], phone=sponsor["phone"])
    assert taken.status_code == 409
    moved = await patch(service, dependent["id"], reached_by=other["id"])
    assert (moved.status_code, moved.json()["reached_by"]) == (200, other["id"])
    given = await patch(service, dependent["id"], phone="9812345678")
    member = given.json()
    assert (member["phone"], member["reached_by"], member["own_number"]) == ("+919812345678", None, True)
    assert "reached_by" not in await service.stored(dependent["id"])
    again = await patch(service, dependent["id"], reached_by=other["id"])
    assert reason(again)[:2] == (409, "has-own-number")
    assert (await patch(service, dependent["id"], phone=None)).status_code == 422
    assert (await get(service, dependent["id"]))["phone"] == "+919812345678"
    assert (await service.post(a_person(phone="9812345678"))).status_code == 409
    events = [event for event in await service.events(5) if event.subject == dependent["id"]]
    assert [event.data.own_number for event in events] == [False, False, True]  # type: ignore[attr-defined]


async def test_who_reaches_another_is_shown_for_as_long_as_they_are_there(service: Service) -> None:
    sponsor, survivor, third = [await service.register() for _ in range(3)]
    dependent, others = await register(service, sponsor["id"]), await register(service, third["id"])
    merged = await merge(service, survivor["id"], sponsor["id"])
    assert merged.status_code == 200, merged.text
    assert (await get(service, dependent["id"]))["reached_by"] == survivor["id"]
    assert (await undo(service, merged.json()["id"])).status_code == 200
    assert (await get(service, dependent["id"]))["reached_by"] == sponsor["id"]
    await service.http.delete(f"/v1/members/{sponsor['id']}")
    erased = await service.http.post(
        f"/v1/members/{third['id']}/erasure", headers=service.app.auth("erasure:write")
    )
    assert erased.status_code == 202
    for each in (dependent, others):
        member = await get(service, each["id"])
        assert (member["reached_by"], member["own_number"], member["version"]) == (None, False, 1)
        assert (await patch(service, each["id"], name="Rani Kumari")).status_code == 200


@pytest.mark.parametrize("choice", [{}, {"phone": "survivor"}, {"phone": "other"}])
@pytest.mark.parametrize("without_first", [True, False])
async def test_a_merge_keeps_the_number_that_either_has(
    service: Service, choice: dict[str, str], without_first: bool
) -> None:
    sponsor, owner = await service.register(), await service.register()
    dependent = await register(service, sponsor["id"])
    pair = [dependent["id"], owner["id"]] if without_first else [owner["id"], dependent["id"]]
    answer = await merge(service, *pair, fields=choice)
    assert answer.status_code == 200, answer.text
    survivor = await get(service, pair[0])
    assert (survivor["phone"], survivor["reached_by"]) == (owner["phone"], None)
    assert (await undo(service, answer.json()["id"])).status_code == 200
    back, own = await get(service, dependent["id"]), await get(service, owner["id"])
    assert (back["phone"], back["reached_by"], back["own_number"]) == (None, sponsor["id"], False)
    assert (own["phone"], own["own_number"]) == (owner["phone"], True)


async def test_undoing_a_merge_leaves_a_number_that_was_given_since(service: Service) -> None:
    sponsor, owner = await service.register(), await service.register()
    dependent = await register(service, sponsor["id"])
    answer = await merge(service, dependent["id"], owner["id"])
    assert (await patch(service, dependent["id"], phone="9812345678")).status_code == 200
    assert (await undo(service, answer.json()["id"])).status_code == 200
    member = await get(service, dependent["id"])
    assert (member["phone"], member["reached_by"]) == ("+919812345678", None)


async def test_two_without_a_number_are_merged_and_stay_without(service: Service) -> None:
    sponsor, other = await service.register(), await service.register()
    first, second = await register(service, sponsor["id"]), await register(service, other["id"])
    answer = await merge(service, first["id"], second["id"], fields={"reached_by": "other"})
    assert answer.status_code == 200, answer.text
    assert (await get(service, first["id"]))["reached_by"] == other["id"]
    assert (await undo(service, answer.json()["id"])).status_code == 200
    assert (await get(service, first["id"]))["reached_by"] == sponsor["id"]


async def test_an_erasure_of_who_has_no_number_leaves_nothing(service: Service) -> None:
    sponsor = await service.register()
    rows = f"name,reached_by\nRani Devi,{sponsor['id']}\n"
    await applied(service, (await planned(service, rows))["id"])
    stored = await service.db["members"].find_one({"reached_by": sponsor["id"]})
    assert stored is not None
    assert await service.db["import_seen"].count_documents({}) == 1
    path = f"/v1/members/{stored['_id']}/erasure"
    answer = await service.http.post(path, headers=service.app.auth("erasure:write"))
    assert answer.status_code == 202
    assert await service.db["members"].count_documents({}) == 1
    assert await service.db["import_seen"].count_documents({}) == 0
    assert not [row async for row in service.db["erasures"].find({"number": {"$exists": True}})]


async def test_snapshots_say_who_has_no_number(service: Service) -> None:
    sponsor = await service.register()
    dependent = await register(service, sponsor["id"])
    [source] = SOURCES
    rows = service.db["members"].find({}, dict.fromkeys(source.fields, 1))
    told = {snapshot.member_id: snapshot for snapshot, _ in [member(row) async for row in rows]}
    assert all(isinstance(each, MemberSnapshot) for each in told.values())
    assert {id_: each.own_number for id_, each in told.items()} == {
        sponsor["id"]: True,
        dependent["id"]: False,
    }


async def test_a_file_names_who_reaches_whom(service: Service) -> None:
    sponsor, away = await service.register(), await service.register(unit=ELSEWHERE)
    owner = await service.register(name="Ram Kumar")
    clerk = service.app.auth("members:write members:read contacts:read", "BR-SARAN")
    rows = [
        "नाम,मोबाइल,reached via",
        f"Rani Devi,,{sponsor['id'].upper()}",
        f"RANI  devi,,{sponsor['id']}",
        f"Sita Devi,,{away['id']}",
        f"Gita Devi,,{new_id()}",
        "Mina Devi,,",
        "Lila Devi,,9812345678",
        f"Both Ways,{a_phone()},{sponsor['id']}",
        f"Ram Kumar,{owner['phone']},{sponsor['id']}",
    ]
    plan = await planned(service, "\r\n".join(rows), **clerk)
    assert outcomes(plan) == {"new": 1, "duplicate": 1, "refused": 6}
    assert plan["plan"]["reasons"] == {"reached_by": 3, "no_phone": 1, "phone_and_reached_by": 2}
    assert "same_as_line_2" in (await refused(service, plan["id"]))[0].values()
    assert (await applied(service, plan["id"]))["applied"]["created"] == 1
    stored = await service.db["members"].find_one({"reached_by": sponsor["id"]})
    assert stored is not None
    assert stored["name"] == "Rani Devi"
    assert outcomes(await planned(service, "\r\n".join(rows[:2]), **clerk)) == {"unchanged": 1}


async def test_what_an_export_writes_of_them_is_imported_unchanged(service: Service) -> None:
    sponsor, other = await service.register(), await service.register()
    dependent, left = await register(service, sponsor["id"]), await register(service, other["id"])
    await service.http.delete(f"/v1/members/{other['id']}")
    for kind, type_ in (("csv", "text/csv"), ("ndjson", "application/x-ndjson")):
        content = await exported(service, status="active", format=kind)
        plan = await planned(service, content, **{"content-type": type_})
        assert outcomes(plan) == {"unchanged": 3}, kind
    rows = {row["id"]: row for row in rows_of(await exported(service))}
    assert (rows[dependent["id"]]["phone"], rows[dependent["id"]]["reached_by"]) == ("", sponsor["id"])

    given = a_phone()
    third, fourth = await service.register(), await register(service, sponsor["id"])
    lines = [
        "id,phone,reached_by",
        f"{dependent['id']},{given},{sponsor['id']}",
        f"{left['id']},,{sponsor['id']}",
        f"{sponsor['id']},,{third['id']}",
        f"{fourth['id']},,{dependent['id']}",
    ]
    plan = await planned(service, "\n".join(lines))
    assert outcomes(plan) == {"changed": 2, "refused": 2}
    assert plan["plan"]["reasons"] == {"reached_by": 1, "has_number": 1}
    assert (await applied(service, plan["id"]))["applied"]["updated"] == 2
    assert (await get(service, dependent["id"]))["phone"] == f"+91{given}"
    assert "reached_by" not in await service.stored(dependent["id"])
    assert (await get(service, left["id"]))["reached_by"] == sponsor["id"]


async def test_a_plan_whose_sponsor_has_left_is_set_aside(service: Service) -> None:
    sponsor, other = await service.register(), await service.register()
    dependent = await register(service, other["id"])
    rows = f"id,name,reached_by\n,Asha,{sponsor['id']}\n{dependent['id']},,{sponsor['id']}\n"
    plan = await planned(service, rows)
    assert outcomes(plan) == {"new": 1, "changed": 1}
    await service.http.delete(f"/v1/members/{sponsor['id']}")
    assert (await applied(service, plan["id"]))["applied"] == {"created": 0, "updated": 0, "set_aside": 2}


async def test_two_plans_with_the_same_person_make_them_once(service: Service) -> None:
    sponsor = await service.register()
    plans = [
        await planned(service, f"name,reached_by\nAsha,{sponsor['id']}\n{other},{sponsor['id']}\n")
        for other in ("Bela", "Cila")
    ]
    assert [outcomes(plan) for plan in plans] == [{"new": 2}] * 2
    made = [(await applied(service, plan["id"]))["applied"] for plan in plans]
    assert [(each["created"], each["set_aside"]) for each in made] == [(2, 0), (1, 1)]
