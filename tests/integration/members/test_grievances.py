"""Grievances: sealed words, an answer in time, and a record of who read them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from services.members.grievances.service import overdue
from services.members.grievances.store import GrievanceStore
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service

RIGHTS: Final = "grievances:write grievances:read"
TEXT: Final = "मुझे बार-बार संदेश आते हैं: +919812345678\n<script>"


async def file(service: Service, caller: str = "*", key: str | None = None, **body: Any) -> httpx2.Response:
    headers = service.app.auth(RIGHTS, caller, sub="clerk") | ({"idempotency-key": key} if key else {})
    sent = {"kind": "messages", "text": TEXT} | body
    return await service.http.post("/v1/grievances", json=sent, headers=headers)


async def patch(service: Service, id_: str, version: int, **body: Any) -> httpx2.Response:
    headers = service.app.auth(RIGHTS, sub="clerk") | {"if-match": f'"{version}"'}
    return await service.http.patch(f"/v1/grievances/{id_}", json=body, headers=headers)


async def get(service: Service, path: str, unit: str = "*", sub: str = "eve") -> httpx2.Response:
    headers = service.app.auth("grievances:read", unit, sub=sub)
    return await service.http.get(f"/v1/grievances{path}", headers=headers)


async def test_a_grievance_is_filed_answered_and_closed(service: Service) -> None:
    member = await service.register()
    filed = await file(service, member_id=member["id"])
    assert filed.status_code == 201, filed.text
    found = filed.json()
    assert (found["unit"], found["state"], found["text"], found["answer"]) == (UNIT, "open", TEXT, None)
    opened, due = (datetime.fromisoformat(found[name]) for name in ("opened_at", "due_at"))
    assert due - opened == timedelta(days=90)
    id_ = found["id"]
    assert filed.headers["location"] == f"/v1/grievances/{id_}"
    assert (await patch(service, id_, 1, state="closed")).status_code == 409
    answered = (await patch(service, id_, 1, answer="हमने संदेश बंद कर दिए")).json()
    assert (answered["state"], answered["version"], answered["answered_at"] is None) == ("answered", 2, False)
    assert (await patch(service, id_, 1, state="closed")).status_code == 412
    closed = (await patch(service, id_, 2, state="closed")).json()
    assert (closed["state"], closed["answer"], closed["version"]) == ("closed", answered["answer"], 3)
    assert (await patch(service, id_, 3, state="closed")).json() == closed, "closing it again changes nothing"


async def test_its_words_are_sealed_and_reading_them_is_on_record(service: Service) -> None:
    member = await service.register()
    id_ = (await file(service, member_id=member["id"])).json()["id"]
    row = await service.db["grievances"].find_one({"_id": id_})
    assert row is not None
    assert not [value for value in row.values() if isinstance(value, str) and "98123" in value]
    assert b"98123" not in bytes(row["sealed"])
    listed = await get(service, "")
    assert "98123" not in listed.text
    assert [each["id"] for each in listed.json()["items"]] == [id_]
    assert await service.db["contact_reads"].count_documents({"subject": "eve"}) == 0
    assert (await get(service, f"/{id_}")).json()["text"] == TEXT
    read = await service.db["contact_reads"].find_one({"subject": "eve"})
    assert read is not None
    assert (read["via"], read["ids"], read["about"]) == ("grievance", [member["id"]], f"grievance:{id_}")


async def test_a_repeated_request_files_it_once(service: Service) -> None:
    first, again = [await file(service, key="k1", unit=UNIT) for _ in range(2)]
    assert (first.json()["id"], first.status_code) == (again.json()["id"], again.status_code)
    assert (await file(service, key="k1", unit=UNIT, text="other")).status_code == 422
    assert await service.db["grievances"].count_documents({}) == 1


async def file_in(service: Service, unit: str, caller: str) -> int:
    return (await file(service, caller, unit=unit)).status_code


async def test_a_caller_of_a_unit_sees_its_grievances_alone(service: Service) -> None:
    member = await service.register(unit="BR-GAYA")
    id_ = (await file(service, member_id=member["id"])).json()["id"]
    headers = service.app.auth(RIGHTS, "BR-SARAN") | {"if-match": '"1"'}
    there = f"/v1/grievances/{id_}"
    assert (await get(service, f"/{id_}", "BR-SARAN")).status_code == 404
    assert (await service.http.patch(there, json={"answer": "x"}, headers=headers)).status_code == 404
    assert (await get(service, "", "BR-SARAN")).json()["items"] == []
    assert (await get(service, "?unit=BR-GAYA", "BR-SARAN")).status_code == 404
    assert (await file(service, "BR-SARAN", member_id=member["id"])).status_code == 404
    assert [await file_in(service, unit, "BR-SARAN") for unit in ("BR-GAYA", "BR-SARAN-1")] == [404, 201]
    assert len((await get(service, "?state=open", "BR-GAYA")).json()["items"]) == 1
    for query, count in ((f"?member={member['id']}", 1), ("?state=closed", 0), (f"?member={new_id()}", 0)):
        assert len((await get(service, query)).json()["items"]) == count


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"unit": UNIT, "member_id": "01900000-0000-7000-8000-000000000000"},
        {"unit": UNIT, "kind": "rant"},
        {"unit": UNIT, "text": "\u200b \x00"},
        {"unit": UNIT, "text": "x" * 5001},
        {"unit": UNIT, "text": "\u0315" * 200_000},
        {"unit": UNIT, "priority": 1},
    ],
)
async def test_a_grievance_that_makes_no_sense_is_refused(empty: Service, body: dict[str, Any]) -> None:
    answer = await file(empty, **body)
    assert answer.status_code == 422, answer.text
    assert "98123" not in answer.text


async def test_those_without_an_answer_in_time_are_counted(service: Service) -> None:
    filed = [(await file(service, unit=UNIT)).json()["id"] for _ in range(3)]
    await patch(service, filed[0], 1, answer="so")
    clock, registry = service.app.runtime.server_clock, CollectorRegistry()
    past = {"$set": {"due_at": clock.now() - timedelta(days=1)}}
    await service.db["grievances"].update_many({"_id": {"$in": filed[:2]}}, past)
    await overdue(GrievanceStore(service.db), clock, registry)()
    assert registry.get_sample_value("sangathan_members_grievances_overdue") == 1


async def test_every_page_reads_an_index_in_its_order_and_little_else(service: Service) -> None:
    """In a small unit among many, as MongoDB's profiler tells what was executed."""
    member = (await service.register())["id"]
    rows = []
    for unit, of in ((UNIT, member), ("BR-GAYA", None)):
        id_ = (await file(service, **({"member_id": of} if of else {"unit": unit}))).json()["id"]
        row = await service.db["grievances"].find_one({"_id": id_})
        assert row is not None
        rows += [row | {"_id": new_id(), "state": state} for state in ("open", "answered", "closed")]
    few, many = rows[:3], rows[3:]
    crowd = [each | {"_id": new_id()} for each in many for _ in range(200)]
    await service.db["grievances"].insert_many([*few, *crowd])
    for filters in ("", "&state=closed", f"&member={member}", f"&member={member}&state=closed"):
        for unit in ("", f"&unit={UNIT}", "&unit=BR", "&unit=BR-GAYA"):
            await service.db.command("profile", 2)
            answer = await get(service, f"?limit=20{unit}{filters}")
            assert answer.status_code == 200, answer.text
            await service.db.command("profile", 0)
            await read_little(service, "grievances", len(answer.json()["items"]), f"{unit}{filters}")


async def read_little(service: Service, collection: str, answered: int, what: str) -> None:
    query = {"command.find": collection}
    [executed] = [row async for row in service.db["system.profile"].find(query)]
    await service.db.drop_collection("system.profile")
    assert executed["planSummary"].startswith("IXSCAN"), (what, executed["planSummary"])
    assert not executed.get("hasSortStage"), what
    assert executed["docsExamined"] <= answered + 10, (what, executed["docsExamined"])
    assert executed["keysExamined"] <= 2 * answered + 10, (what, executed["keysExamined"])
