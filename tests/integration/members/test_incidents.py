"""Incidents: their clocks, the frozen list of the affected, and the drafts of the notices."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from services.members.incidents.service import clocks
from services.members.incidents.store import IncidentStore
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service
from tests.integration.members.test_grievances import read_little

RIGHTS: Final = "incidents:write incidents:read members:read"
DISTRICT: Final = "BR-SARAN"
WHAT: Final = "एक लैपटॉप चोरी हुआ {{ 7 * 7 }} {% raise %}"
WORDS: Final = {"consequences": "spam", "measures": "revoked", "advice": "be careful", "contact": "help@x.in"}


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat()


def auth(service: Service, unit: str = "*", **headers: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.app.auth(RIGHTS, unit, sub="officer") | named


async def record(service: Service, caller: str = "*", key: str | None = None, **body: Any) -> httpx2.Response:
    sent = {"unit": DISTRICT, "detected_at": ago(hours=1), "title": "Stolen laptop", "what": WHAT} | body
    headers = auth(service, caller, **({"idempotency_key": key} if key else {}))
    return await service.http.post("/v1/incidents", json=sent, headers=headers)


async def recorded(service: Service, **body: Any) -> str:
    answer = await record(service, **body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def patch(service: Service, id_: str, version: int, **body: Any) -> httpx2.Response:
    headers = auth(service, if_match=f'"{version}"')
    return await service.http.patch(f"/v1/incidents/{id_}", json=body, headers=headers)


async def get(service: Service, path: str, unit: str = "*") -> httpx2.Response:
    return await service.http.get(f"/v1/incidents{path}", headers=auth(service, unit))


async def take(service: Service, id_: str, caller: str = "*", **body: Any) -> httpx2.Response:
    return await service.http.put(f"/v1/incidents/{id_}/affected", json=body, headers=auth(service, caller))


async def affected(service: Service, id_: str, limit: int = 500) -> list[str]:
    """The list, once it is whole, by pages."""

    async def whole() -> bool:
        return (await get(service, f"/{id_}")).json()["affected"]["count"] is not None

    await service.app.until(whole)
    ids: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await get(service, f"/{id_}/affected?limit={limit}{cursor}")).json()
        ids += [each["member_id"] for each in page["items"]]
        cursor = f"&cursor={page['next']}" if page["next"] else None
    assert (await get(service, f"/{id_}")).json()["affected"]["count"] == len(ids)
    return ids


def states(incident: dict[str, Any]) -> dict[str, str]:
    return {each["duty"]: each["state"] for each in incident["duties"]}


async def test_the_clocks_run_from_the_detection_until_they_are_marked(service: Service) -> None:
    detected = ago(hours=7)
    id_ = await recorded(service, detected_at=detected)
    incident = (await get(service, f"/{id_}")).json()
    due = {each["duty"]: each["due_at"] for each in incident["duties"]}
    began = datetime.fromisoformat(incident["detected_at"])
    assert datetime.fromisoformat(due["cert_in"]) - began == timedelta(hours=6)
    assert datetime.fromisoformat(due["board_report"]) - began == timedelta(hours=72)
    assert due["board_notice"] is due["persons"] is None
    assert states(incident) == {
        "cert_in": "overdue",
        "board_notice": "open",
        "board_report": "open",
        "persons": "open",
    }

    registry = CollectorRegistry()
    read = clocks(IncidentStore(service.db), service.app.runtime.server_clock, registry)

    async def left(duty: str) -> float | None:
        await read()
        return registry.get_sample_value("sangathan_members_incident_clock_seconds", {"duty": duty})

    assert await left("cert_in") == pytest.approx(-3600, abs=60)
    assert await left("board_report") == pytest.approx(65 * 3600, abs=60)
    done = (await patch(service, id_, 1, done={"cert_in": ago(minutes=1)})).json()
    assert states(done)["cert_in"] == "done"
    assert {each["done_by"] for each in done["duties"]} == {"officer", None}
    assert await left("cert_in") == math.inf
    assert (await patch(service, id_, 1, done={"persons": ago(minutes=1)})).status_code == 412
    undone = (await patch(service, id_, 2, done={"cert_in": None})).json()
    assert states(undone)["cert_in"] == "overdue"
    assert await left("cert_in") == pytest.approx(-3600, abs=60)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await patch(service, id_, 3, done={"persons": later})).status_code == 422
    assert (await record(service, detected_at=later)).status_code == 422


async def test_its_words_are_sealed_and_a_repeated_request_records_it_once(service: Service) -> None:
    first, again = [await record(service, key="k", detected_at="2026-11-01T00:00:00Z") for _ in range(2)]
    assert (first.json()["id"], again.status_code) == (again.json()["id"], 201)
    assert (await record(service, key="k")).status_code == 422
    [row] = await service.db["incidents"].find({}).to_list(None)
    assert "laptop" not in str({name: value for name, value in row.items() if name != "sealed"})
    assert b"laptop" not in bytes(row["sealed"])
    assert "laptop" not in (await get(service, "")).text
    shown = (await get(service, f"/{row['_id']}")).json()
    assert (shown["title"], shown["what"]) == ("Stolen laptop", WHAT)


async def test_the_affected_are_those_whose_contact_a_caller_was_shown_then(service: Service) -> None:
    seen = [(await service.register())["id"] for _ in range(25)]
    before, other, after = [(await service.register())["id"] for _ in range(3)]
    outside = (await service.register(unit="BR-GAYA"))["id"]
    base = datetime.now(UTC) - timedelta(hours=2)

    def read(subject: str, minute: float, *ids: str) -> dict[str, Any]:
        at = base + timedelta(minutes=minute)
        return {"_id": new_id(), "subject": subject, "ids": ids, "via": "list", "at": at, "request_id": ""}

    rows = [read("thief", n, member, seen[0], outside) for n, member in enumerate(seen)]
    rows += [read("thief", -1, before), read("clerk", 5, other), read("thief", 40, after)]
    await service.db["contact_reads"].insert_many(rows)
    id_ = await recorded(service)
    span = {"from": base.isoformat(), "to": (base + timedelta(minutes=30)).isoformat()}
    taken = await take(service, id_, by="reads", subject="thief", **span)
    assert taken.status_code == 202, taken.text
    assert await affected(service, id_, limit=10) == sorted(seen)
    assert (await take(service, id_, by="reads", subject="clerk")).status_code == 409
    # Frozen: what is read or moved afterwards changes nothing.
    await service.db["contact_reads"].insert_one(read("thief", 6, other))
    await service.http.post(f"/v1/members/{seen[0]}/move", json={"unit": "BR-GAYA"})
    assert await affected(service, id_) == sorted(seen)
    job = (await service.http.get(taken.headers["location"], headers=auth(service))).json()
    assert (job["state"], job["progress"]["done"]) == ("succeeded", 25)


async def test_the_affected_may_be_those_of_a_unit(service: Service) -> None:
    inside = [(await service.register())["id"] for _ in range(3)]
    await service.register(unit="BR-SARAN-B2")
    id_ = await recorded(service)
    assert (await get(service, f"/{id_}/affected")).json() == {"items": [], "next": None}
    for unit in ("BR-GAYA", "BR", "BR-SARA"):
        assert (await take(service, id_, by="members", unit=unit)).status_code == 404
    assert (await take(service, id_, by="members", unit=UNIT)).status_code == 202
    assert await affected(service, id_) == sorted(inside)


@pytest.mark.parametrize(
    "body",
    [
        {"by": "reads"},
        {"by": "members", "subject": "x"},
        {"by": "guess"},
        {"by": "members", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"by": "members", "since": "2026-01-02T00:00:00Z"},
        {"by": "members", "from": "20260101"},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(service: Service, body: dict[str, Any]) -> None:
    id_ = await recorded(service)
    assert (await take(service, id_, **body)).status_code == 422


async def test_the_notices_are_drafted_from_the_record(service: Service) -> None:
    member = await service.register()
    id_ = await recorded(service)
    drafts = (await get(service, f"/{id_}/notices")).json()["items"]
    assert [(each["duty"], each["language"]) for each in drafts] == [
        ("cert_in", "en"),
        ("board_notice", "en"),
        ("board_report", "en"),
        ("persons", "hi"),
        ("persons", "en"),
    ]
    assert not any(each["complete"] for each in drafts)
    for each in drafts:
        assert WHAT in each["text"], "what people typed is no template"
        assert "Stolen laptop" in each["text"]
    await take(service, id_, by="members")
    assert await affected(service, id_) == [member["id"]]
    version = (await get(service, f"/{id_}")).json()["version"]
    assert (await patch(service, id_, version, **WORDS)).status_code == 200
    full = {
        (each["duty"], each["language"]): each
        for each in (await get(service, f"/{id_}/notices")).json()["items"]
    }
    assert [each["complete"] for each in full.values()] == [True, True, False, True, True]
    assert "records of 1 persons" in full["cert_in", "en"]["text"]
    for word in WORDS.values():
        assert word in full["persons", "hi"]["text"]
        assert word in full["persons", "en"]["text"]


async def test_a_caller_of_a_unit_sees_its_incidents_alone(service: Service) -> None:
    id_ = await recorded(service)
    assert len((await get(service, "", DISTRICT)).json()["items"]) == 1
    assert (await get(service, "", UNIT)).json()["items"] == []
    assert (await record(service, "BR-GAYA")).status_code == 404
    for unit in ("BR-GAYA", UNIT):
        for path in ("", "/affected", "/notices"):
            assert (await get(service, f"/{id_}{path}", unit)).status_code == 404, (unit, path)
        assert (await take(service, id_, unit, by="members")).status_code == 404
        headers = auth(service, unit, if_match='"1"')
        changed = await service.http.patch(f"/v1/incidents/{id_}", json={"title": "x"}, headers=headers)
        assert changed.status_code == 404


async def test_every_page_reads_an_index_in_its_order_and_little_else(service: Service) -> None:
    rows = []
    for unit in (UNIT, "BR-GAYA"):
        row = await service.db["incidents"].find_one({"_id": await recorded(service, unit=unit)})
        assert row is not None
        rows.append(row)
    crowd = [rows[1] | {"_id": new_id()} for _ in range(500)]
    await service.db["incidents"].insert_many(crowd)
    for unit in ("", f"&unit={UNIT}", "&unit=BR", "&unit=BR-GAYA"):
        await service.db.command("profile", 2)
        answer = await get(service, f"?limit=20{unit}")
        assert answer.status_code == 200, answer.text
        await service.db.command("profile", 0)
        await read_little(service, "incidents", len(answer.json()["items"]), unit)
